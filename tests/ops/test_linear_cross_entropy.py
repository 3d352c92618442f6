"""Loss and its gradients on the kernels (Triton's interpreter) against all logits in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops import loss_kernels
from fseed.ops.linear_cross_entropy import linear_cross_entropy, mean_cross_entropy
from fseed_kernels.neighbours import cross_entropy
from fseed_kernels.reference import relative_error

WIDTH, VOCABULARY, CHUNK = 16, 37, 4

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_kernels, "chunk_rows", lambda vocab_size, dtype: CHUNK)


def build(num_rows: int, *, without: tuple[int, ...] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden, weight and targets; rows of ``without`` do not count."""
    generator = torch.Generator().manual_seed(num_rows)
    hidden = torch.randn(num_rows, WIDTH, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    targets = torch.randint(VOCABULARY, (num_rows,), generator=generator)
    targets[list(without)] = -1
    return hidden, weight, targets


def plain(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, share: float = 1.0
) -> tuple[Tensor, ...]:
    """Return loss, dhidden and dweight from all logits in float64."""
    leaves = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    counts = targets >= 0
    loss = F.cross_entropy((leaves[0] @ leaves[1].T)[counts], targets[counts])
    return loss.detach(), *torch.autograd.grad(loss * share, leaves)


def fused(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    share: float = 1.0,
    num_targets: Tensor | None = None,
) -> tuple[Tensor, ...]:
    call = {"num_targets": num_targets, "backend": "triton"}
    loss = linear_cross_entropy(hidden, weight, targets, **call)
    return loss.detach(), *torch.autograd.grad(loss * share, (hidden, weight))


@pytest.mark.parametrize(
    ("num_rows", "without"),
    [(1, ()), (3, (1,)), (4, ()), (5, (4,)), (8, (0, 1, 2, 3)), (9, (8,)), (14, (0, 5, 13))],
)
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.37])
def test_loss_and_gradients(
    num_rows: int, without: tuple[int, ...], counted: bool, share: float
) -> None:
    given = build(num_rows, without=without)
    count = torch.tensor(float(num_rows - len(without))) if counted else None
    found = fused(*given, share=share, num_targets=count)
    for actual, expected in zip(found, plain(*given, share=share), strict=True):
        assert actual.dtype == torch.float32
        assert relative_error(actual, expected) <= 2e-6
    assert (found[1][list(without)] == 0).all()


def test_the_loss_has_the_slope_of_its_gradient() -> None:
    """Numerically, along one direction of both inputs."""
    hidden, weight, targets = build(9, without=(2,))
    _, dhidden, dweight = fused(hidden, weight, targets)
    generator = torch.Generator().manual_seed(5)
    along = [torch.randn(x.shape, generator=generator) for x in (hidden, weight)]
    slope = sum(float((d * x).sum()) for d, x in zip((dhidden, dweight), along, strict=True))
    ends = []
    for step in (1e-2, -1e-2):
        moved = [x.detach() + step * d for x, d in zip((hidden, weight), along, strict=True)]
        ends.append(linear_cross_entropy(*moved, targets, num_targets=None, backend="triton"))
    assert float(ends[0] - ends[1]) / 2e-2 == pytest.approx(slope, rel=2e-3)


def test_the_same_bits_twice() -> None:
    given = build(11, without=(3,))
    assert all(map(torch.equal, fused(*given), fused(*given)))


def test_rows_that_do_not_count_change_no_digit_of_another_row() -> None:
    hidden, weight, targets = build(6, without=(1, 4))
    counts = torch.tensor(4.0)
    loss, dhidden, _ = fused(hidden, weight, targets, num_targets=counts)
    with torch.no_grad():
        hidden[1] = hidden[4] = 100.0
    again, dother, _ = fused(hidden, weight, targets, num_targets=counts)
    assert torch.equal(loss, again)
    assert torch.equal(dhidden, dother)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "both", "no_grad"])
def test_only_what_is_needed_is_computed(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = build(6)
    expected, dhidden, dweight = plain(hidden, weight, targets)
    hidden.requires_grad_(frozen not in ("hidden", "both"))
    weight.requires_grad_(frozen not in ("weight", "both"))
    kept = []
    write = cross_entropy.cross_entropy_

    def spy(*args: Tensor, with_gradient: bool, **rest: int) -> None:
        kept.append(with_gradient)
        write(*args, with_gradient=with_gradient, **rest)

    monkeypatch.setattr(cross_entropy, "cross_entropy_", spy)
    call = {"num_targets": None, "backend": "triton"}
    with torch.set_grad_enabled(frozen != "no_grad"):
        loss = linear_cross_entropy(hidden, weight, targets, **call)
    assert relative_error(loss, expected) <= 2e-6
    needs = frozen in ("hidden", "weight")
    assert kept == [needs, needs]
    assert loss.requires_grad == needs
    if needs:
        loss.backward()
        leaf, wanted = (weight, dweight) if frozen == "hidden" else (hidden, dhidden)
        assert leaf.grad is not None
        assert relative_error(leaf.grad, wanted) <= 2e-6


def test_the_gradient_of_the_table_is_handed_on_without_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, weight, targets = build(6)
    scaled = []
    scale = cross_entropy.scale_

    def spy(x: Tensor, factor: Tensor) -> None:
        scaled.append(x.data_ptr())
        scale(x, factor)

    monkeypatch.setattr(cross_entropy, "scale_", spy)
    linear_cross_entropy(hidden, weight, targets, num_targets=None, backend="triton").backward()
    assert weight.grad is not None
    assert weight.grad.data_ptr() in scaled


def test_a_graph_is_differentiated_once() -> None:
    hidden, weight, targets = build(3)
    loss = linear_cross_entropy(hidden, weight, targets, num_targets=None, backend="triton")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_no_more_than_a_chunk_of_logits_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, places = [], set()
    write = cross_entropy.cross_entropy_

    def spy(x: Tensor, *args: Tensor, **rest: int) -> None:
        shapes.append(tuple(x.shape))
        places.add(x.data_ptr())
        write(x, *args, **rest)

    monkeypatch.setattr(cross_entropy, "cross_entropy_", spy)
    fused(*build(10))
    assert shapes == [(4, VOCABULARY), (4, VOCABULARY), (2, VOCABULARY)]
    assert len(places) == 1


def test_a_chunk_of_a_large_vocabulary_takes_256_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert loss_kernels.chunk_rows(65536, torch.bfloat16) == 2048
    assert loss_kernels.chunk_rows(65536, torch.float32) == 1024
    assert loss_kernels.chunk_rows(2**30, torch.float32) == 1


@pytest.fixture
def products_on_the_cpu() -> Iterator[None]:
    """PyTorch has products of bf16 into float32 on CUDA only."""
    library = torch.library.Library("aten", "IMPL")

    def mm(left: Tensor, right: Tensor, out_dtype: torch.dtype, *, out: Tensor) -> Tensor:
        assert left.dtype == right.dtype == torch.bfloat16
        assert out.dtype == out_dtype == torch.float32
        return out.copy_(left.float() @ right.float())

    def addmm(
        add: Tensor, left: Tensor, right: Tensor, out_dtype: torch.dtype,
        *, beta: float = 1, alpha: float = 1, out: Tensor,
    ) -> Tensor:  # fmt: skip
        assert (beta, alpha) == (1, 1)
        return out.copy_(add + mm(left, right, out_dtype, out=torch.empty_like(out)))

    library.impl("mm.dtype_out", mm, "CPU")
    library.impl("addmm.dtype_out", addmm, "CPU")
    yield
    library._destroy()


@pytest.mark.usefixtures("products_on_the_cpu")
def test_autocast_computes_products_in_bfloat16_and_sums_in_float32() -> None:
    hidden, weight, targets = build(9, without=(6,))
    expected = plain(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets, num_targets=None, backend="triton")
        logits = F.linear(hidden, weight)
        assert logits.dtype == torch.bfloat16
        other = mean_cross_entropy(logits, targets, num_targets=None)
    found = (loss, *torch.autograd.grad(loss, (hidden, weight)))
    today = (other, *torch.autograd.grad(other, (hidden, weight)))
    for actual, plain_bf16, wanted in zip(found, today, expected, strict=True):
        assert actual.dtype == torch.float32
        # the gradients are rounded less often, the logits as often
        assert relative_error(actual, wanted) <= 1.2 * relative_error(plain_bf16, wanted) + 2**-9
    assert relative_error(found[0], expected[0]) > 1e-6  # bf16 it was


@pytest.mark.parametrize("backend", ["chunked", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_backends_keep_their_digits(backend: str, dtype: torch.dtype) -> None:
    hidden, weight, targets = build(7)
    leaves = [x.detach().to(dtype).requires_grad_() for x in (hidden, weight)]
    before = F.cross_entropy(F.linear(*leaves), targets)
    for count in (None, torch.tensor(7.0)):
        loss = linear_cross_entropy(*leaves, targets, num_targets=count, backend=backend)
        assert torch.equal(loss, before)
        pairs = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (loss, before))
        assert all(map(torch.equal, *pairs))


def test_plain_backends_leave_rows_out() -> None:
    hidden, weight, targets = build(7, without=(0, 6))
    expected = plain(hidden, weight, targets)
    for count in (None, torch.tensor(5.0)):
        call = {"num_targets": count, "backend": "chunked"}
        loss = linear_cross_entropy(hidden, weight, targets, **call)
        found = (loss, *torch.autograd.grad(loss, (hidden, weight)))
        for actual, wanted in zip(found, expected, strict=True):
            assert relative_error(actual, wanted) <= 2e-6


def test_the_operators_keep_the_rules_of_custom_operators() -> None:
    hidden, weight, targets = build(6, without=(2,))
    count = torch.tensor(5.0)
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    for needs in ((True, True), (False, False)):
        arguments = (hidden, weight, targets, count, torch.float32, *needs)
        operator = torch.ops.fseed.linear_cross_entropy.default
        torch.library.opcheck(operator, arguments, test_utils=utilities)
    arguments = (torch.randn(5), torch.tensor(0.5))
    torch.library.opcheck(torch.ops.fseed.scale_gradient.default, arguments)


@pytest.mark.slow
def test_compilation_has_no_break_and_changes_no_digit() -> None:
    given = build(9, without=(1,))
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    results = []
    for function in (linear_cross_entropy, compiled):
        loss = function(*given, num_targets=torch.tensor(8.0), backend="triton")
        results.append((loss, *torch.autograd.grad(loss * 0.5, given[:2])))
    assert all(map(torch.equal, *results))
