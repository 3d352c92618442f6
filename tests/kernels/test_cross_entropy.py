"""The loss kernel in Triton's interpreter, float32, against cross-entropy in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fseed_kernels.neighbours import cross_entropy
from fseed_kernels.reference import relative_error

LIMIT = 1e-6
TILE = cross_entropy.LANES * cross_entropy.WIDTH
SCALE = torch.tensor(0.25)

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


def draw(rows: int, vocab: int) -> Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(0))


def plain(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses and the gradient of their sum times SCALE."""
    leaf = x.double().requires_grad_()
    losses = F.cross_entropy(leaf, targets, ignore_index=-1, reduction="none")
    (losses.sum() * SCALE.double()).backward()
    assert leaf.grad is not None
    return losses.detach(), leaf.grad


def fused(x: Tensor, targets: Tensor, *, with_gradient: bool = True) -> tuple[Tensor, Tensor]:
    x, losses = x.clone(), torch.full((len(x),), float("nan"))
    call = {"first_row": 0, "with_gradient": with_gradient}
    cross_entropy.cross_entropy_(x, targets, SCALE, losses, **call)
    return losses, x


@pytest.mark.parametrize("vocab", [1, 2, 257, TILE - 1, TILE, TILE + 1, 2 * TILE + 48])
def test_losses_and_gradients(vocab: int) -> None:
    x = draw(4, vocab)
    targets = torch.tensor([0, -1, vocab - 1, vocab // 2])
    losses, gradient = fused(x, targets)
    expected, expected_gradient = plain(x, targets)
    assert relative_error(losses, expected) <= LIMIT
    assert relative_error(gradient, expected_gradient) <= LIMIT
    assert losses[1] == 0
    assert (gradient[1] == 0).all()


def test_rows_of_large_logits_and_of_equal_ones() -> None:
    x = torch.stack((torch.full((40,), 80.0), 1e4 * torch.arange(40.0), -1e4 * torch.arange(40.0)))
    targets = torch.tensor([5, 0, 0])
    losses, gradient = fused(x, targets)
    expected, expected_gradient = plain(x, targets)
    assert relative_error(losses, expected) <= LIMIT
    assert relative_error(gradient, expected_gradient) <= LIMIT


def test_a_chunk_finds_its_own_targets() -> None:
    x, targets = draw(5, 48), torch.tensor([1, 2, -1, 4, 5])
    losses, gradient = torch.zeros(5), x.clone()
    for first, end in ((0, 2), (2, 3), (3, 5)):
        rows = (gradient[first:end], targets, SCALE, losses)
        cross_entropy.cross_entropy_(*rows, first_row=first, with_gradient=True)
    whole_losses, whole = fused(x, targets)
    assert torch.equal(losses, whole_losses)
    assert torch.equal(gradient, whole)


def test_without_gradient_the_logits_stay() -> None:
    x, targets = draw(3, 48), torch.tensor([1, -1, 2])
    losses, left = fused(x, targets, with_gradient=False)
    assert torch.equal(left, x)
    assert torch.equal(losses, fused(x, targets)[0])


def test_what_is_wrong_with_a_row_stays_in_it() -> None:
    """A target beyond the vocabulary and a logit that is NaN give losses that are NaN."""
    x, targets = draw(3, 48), torch.tensor([48, 3, 5])
    x[2, 40] = float("nan")
    losses, gradient = fused(x, targets)
    assert losses.isnan().tolist() == [True, False, True]
    assert torch.equal(gradient[1], fused(x[1:2], targets[1:2])[1][0])
    assert gradient[2].isnan().any()


@pytest.mark.parametrize("size", [1, 4096, 4097, 20000])
def test_scale(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "SCALE_PROGRAMS", 2)  # some walk through several blocks
    x = draw(1, size)
    for factor in (0.3, 1.0, 0.0):
        scaled = x.clone()
        cross_entropy.scale_(scaled, torch.tensor(factor))
        assert torch.equal(scaled, x * factor)


def test_a_factor_of_one_writes_nothing() -> None:
    # a signalling NaN: any product of it is another number
    x = torch.full((10,), float("nan")).view(torch.int32).fill_(0x7F800001).view(torch.float32)
    bits = x.view(torch.int32).clone()
    cross_entropy.scale_(x, torch.tensor(1.0))
    assert torch.equal(x.view(torch.int32), bits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(2, 8).half()}, "x has dtype torch.float16; allowed"),
        ({"x": torch.zeros(8, 2).mT}, "call .contiguous"),
        ({"x": torch.zeros(8)}, r"x and targets have shapes \(8,\) and \(2,\)"),
        ({"first_row": 1}, r"from row 1; \[n, V\], \[N\]"),
        ({"targets": torch.zeros(2, dtype=torch.int32)}, "targets has dtype torch.int32"),
        ({"losses": torch.zeros(3)}, "losses has shape"),
        ({"scale": torch.zeros(1)}, "scale has shape"),
    ],
)
def test_it_refuses(changes: dict[str, Tensor], message: str) -> None:
    given = {
        "x": torch.zeros(2, 8), "targets": torch.zeros(2, dtype=torch.int64),
        "scale": SCALE, "losses": torch.zeros(2), "first_row": 0,
    } | changes  # fmt: skip
    with pytest.raises(ValueError, match=message):
        cross_entropy.cross_entropy_(**given, with_gradient=True)
