"""The three Triton chunk kernels, each alone, against their formulas in float64."""

import pytest
import torch
from torch import Tensor

from fseed_kernels.reference import relative_error
from fseed_kernels.wkv7_triton import backward_keys, sizes
from fseed_kernels.wkv7_triton.backward_keys import (
    heads_per_slice,
    launch_backward_chunks,
    launch_backward_keys,
)
from fseed_kernels.wkv7_triton.backward_values import launch_backward_values
from fseed_kernels.wkv7_triton.forward_chunk import launch_forward_chunk
from fseed_kernels.wkv7_triton.math import arithmetic
from tests.kernels.chunk_formulas import Case, Formulas, build_case, from_chunks, live

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="runs in the interpreter")
NUM_TOKENS = (1, 15, 16, 17, 63, 64, 65, 130)
GRADIENTS = ("dr", "ddecay_logit", "dk", "dalpha", "dbeta")


def poisoned(like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.full(like.shape, float("nan"), dtype=dtype, device=like.device)


def run_forward(case: Case, *, keep: bool = True) -> dict[str, Tensor]:
    numbers = arithmetic(case.precision)
    dtypes = {"y": case.inputs.v.dtype, "total": torch.float32, "inverse": numbers.scratch_inverse}
    found = {
        name: poisoned(x, dtypes.get(name, numbers.scratch))
        for name, x in Formulas(case).forward().items()
    }
    common = {"keep": keep, "lengths": case.lengths, "precision": case.precision}
    launch_forward_chunk(case.inputs, **found, **common)
    return found


def run_values(case: Case) -> dict[str, Tensor]:
    numbers, formulas = arithmetic(case.precision), Formulas(case)
    found = {name: poisoned(x, numbers.scratch) for name, x in formulas.values().items()}
    found["dv"] = found["dv"].to(case.dy.dtype)
    launch_backward_values(
        case.inputs,
        case.dy,
        states=case.states,
        end=case.end,
        inverse=formulas.X.to(numbers.scratch_inverse),
        **found,
        first_bh=0,
        lengths=case.lengths,
        precision=case.precision,
    )
    return found


def run_keys(case: Case, written: Tensor, dz: Tensor) -> dict[str, Tensor]:
    found = {name: poisoned(case.dy, case.dy.dtype) for name in GRADIENTS}
    launch_backward_keys(
        case.inputs,
        case.dy,
        states=case.states,
        end=case.end,
        written=written,
        dz=dz,
        **found,
        first_bh=0,
        lengths=case.lengths,
        precision=case.precision,
    )
    return found


def run_all(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every output of the three kernels, and what it should be; scratch of live chunks only."""
    formulas, scratch = Formulas(case), arithmetic(case.precision).scratch
    expected = formulas.forward() | formulas.values()
    written, dz = (expected[name].to(scratch) for name in ("written", "dz"))
    found = run_forward(case) | run_values(case) | run_keys(case, written, dz)
    expected |= formulas.keys(written.double(), dz.double())
    for name in ("step", "added", "query", "total", "inverse", "written", "dz"):
        found[name], expected[name] = live(found[name], case), live(expected[name], case)
    return found, expected


def assert_right(case: Case, tolerance: float) -> None:
    found, expected = run_all(case)
    errors = {name: relative_error(found[name], x) for name, x in expected.items()}
    assert {name: error for name, error in errors.items() if not error < tolerance} == {}
    for name in ("y", "dv", *GRADIENTS):
        for row, length in enumerate(case.true_lengths):
            assert (found[name][row, length:] == 0).all(), f"{name} is not 0 on a pad"


@interpreted
@pytest.mark.parametrize(("t", "d"), [(17, 16), (17, 32), (1, 64), (65, 16)])
def test_short_and_whole_chunks(t: int, d: int) -> None:
    assert_right(build_case(t=t, d=d), 5e-6)


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("d", [16, 32, 64])
@pytest.mark.parametrize("t", NUM_TOKENS)
def test_any_number_of_tokens(t: int, d: int) -> None:
    assert_right(build_case(t=t, d=d), 5e-6)


@interpreted
def test_lengths() -> None:
    assert_right(build_case(t=130, d=64, lengths=[0, 65]), 5e-6)


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("d", [16, 32, 64])
@pytest.mark.parametrize("lengths", [[0, 65], [64, 1], [130, 127]])
def test_more_lengths(lengths: list[int], d: int) -> None:
    assert_right(build_case(t=130, d=d, lengths=lengths), 5e-6)


@interpreted
def test_high_precision_takes_other_chunks() -> None:
    case = build_case(t=40, d=64, lengths=[40, 18], precision="high")
    assert case.chunk_size < sizes.chunk_size("bf16", 64, "interpreter")
    assert_right(case, 5e-6)


@interpreted
def test_lengths_of_all_tokens_change_nothing() -> None:
    without = run_all(build_case(t=64, d=16))[0]
    given = run_all(build_case(t=64, d=16, lengths=[64, 64]))[0]
    assert all(torch.equal(x, given[name]) for name, x in without.items())


@interpreted
def test_two_runs_are_equal() -> None:
    case = build_case(t=65, d=16, lengths=[65, 20])
    first, second = run_all(case)[0], run_all(case)[0]
    assert all(torch.equal(x, second[name]) for name, x in first.items())


@interpreted
def test_prompt_mode_writes_no_inverse() -> None:
    case = build_case(t=65, d=16)
    kept, prompt = run_forward(case), run_forward(case, keep=False)
    assert prompt.pop("inverse").isnan().all()
    assert all(torch.equal(x, kept[name]) for name, x in prompt.items())


@interpreted
def test_slices_of_heads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = build_case(t=40, d=16, lengths=[40, 33])
    given = {
        "states": case.states,
        "end": case.end,
        "inverse": Formulas(case).X.float(),
        "lengths": case.lengths,
        "precision": case.precision,
    }
    ddecay_logits = torch.empty_like(case.dy), torch.empty_like(case.dy)
    whole = launch_backward_chunks(case.inputs, case.dy, ddecay_logit=ddecay_logits[0], **given)
    monkeypatch.setattr(backward_keys, "heads_per_slice", lambda *_: 3)  # 3 + 1
    sliced = launch_backward_chunks(case.inputs, case.dy, ddecay_logit=ddecay_logits[1], **given)
    assert torch.equal(*ddecay_logits)
    assert all(torch.equal(x, y) for x, y in zip(whole, sliced, strict=True))


@interpreted
def test_end_in_the_memory_of_an_output_changes_nothing() -> None:
    case = build_case(t=64, d=64)
    given = {"states": case.states, "inverse": Formulas(case).X.float(), "lengths": None}
    separate, lent = torch.empty_like(case.dy), from_chunks(case.end, case.dy).contiguous()
    results = [
        launch_backward_chunks(
            case.inputs, case.dy, end=end, ddecay_logit=ddecay_logit, precision="bf16", **given
        )
        for end, ddecay_logit in ((case.end, separate), (lent, lent))
    ]
    assert torch.equal(lent, separate)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_slices_only_where_they_fill_the_machine() -> None:
    assert heads_per_slice(96, 64, slices=2) == 48  # 8 x 4096 x 12
    assert heads_per_slice(24, 64, slices=2) == 24
    assert heads_per_slice(32, 256, slices=2) == 32  # 1 x 16384 x 32
    assert heads_per_slice(2, 1, slices=3) == 2
    assert heads_per_slice(1, 100_000, slices=3) == 1


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp8'; the kernels have bf16, high"):
        arithmetic("fp8")


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [None, [0, 65], [127, 130]])
@pytest.mark.parametrize("t", [128, 130])
@pytest.mark.parametrize("d", [16, 32, 64])
@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"),
    [
        ("bf16", torch.bfloat16, 1.5e-2),
        ("high", torch.bfloat16, 5e-3),
        ("high", torch.float32, 2e-3),
    ],
)
def test_on_the_gpu(
    precision: str,
    dtype: torch.dtype,
    tolerance: float,
    d: int,
    t: int,
    lengths: list[int] | None,
) -> None:
    lengths = lengths and [min(t, length) for length in lengths]
    case = build_case(t=t, d=d, lengths=lengths, precision=precision, dtype=dtype, device="cuda")
    assert_right(case, tolerance)
