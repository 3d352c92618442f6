"""The Triton backend against the float64 loop, in Triton's interpreter (float32).

Precision only chooses the chunk there: 64 tokens for "bf16" with head size 64, 16 for "high".
"""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import Carried, Inputs
from fseed_kernels.self_check import run
from fseed_kernels.wkv7_triton import launch, sizes
from tests.kernels.poison import poisoned_memory
from tests.kernels.problems import Problem, build_problem, errors, reference, relative_error

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the interpreter's tests; test_gpu.py runs the kernels"
)
TOLERANCE = 5e-6  # found: at most 1e-6
# fast decay over 64 tokens: terms of e^38 cancel in the gradient of the decay; found: 4e-5
DECAY_TOLERANCE = 2e-4
SIX = ("r", "decay_logit", "k", "v", "alpha", "beta")


def assert_right(
    problem: Problem, precision: str = "high", decay_tolerance: float = TOLERANCE
) -> dict[str, Tensor]:
    """Compare outputs and every gradient with the reference; return what the kernels gave."""
    expected, found = reference(problem), run(launch, problem, precision=precision)
    deviations = errors(found, expected)
    allowed = dict.fromkeys(deviations, TOLERANCE) | {"decay_logit": decay_tolerance}
    assert {k: v for k, v in deviations.items() if not v < allowed[k]} == {}
    return found


def tolerance_of_decay(kind: str) -> float:
    return DECAY_TOLERANCE if kind == "fast_decay" else TOLERANCE


def start(problem: Problem) -> dict[str, Tensor | Carried | None]:
    names = ("initial_state", "carried", "lengths")
    return {name: getattr(problem, name) for name in names}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], *names: str) -> None:
    """Compare bit for bit; without names, everything that is there."""
    for name in names or expected:
        if expected[name] is not None:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    "t",
    [*(1, 16, 17, 65), *(pytest.param(t, marks=pytest.mark.slow) for t in (15, 63, 64, 130))],
)
def test_any_number_of_tokens(t: int) -> None:
    assert_right(build_problem(b=1, t=t, h=2, d=16))


@pytest.mark.parametrize(
    ("t", "kind", "precision"),
    [
        (1, "typical", "bf16"),
        pytest.param(65, "equal_keys", "bf16", marks=pytest.mark.slow),
        (64, "fast_decay", "bf16"),
        pytest.param(65, "equal_keys", "high", marks=pytest.mark.slow),
    ],
)
def test_head_size_64(t: int, kind: str, precision: str) -> None:
    problem = build_problem(b=1, t=t, h=2, d=64, kind=kind)
    assert_right(problem, precision, tolerance_of_decay(kind))


@pytest.mark.parametrize("kind", ["fast_decay", "equal_keys"])
def test_kinds_of_data(kind: str) -> None:
    problem = build_problem(b=1, t=70, h=1, d=32, kind=kind, with_carried=True)
    assert_right(problem, decay_tolerance=tolerance_of_decay(kind))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("t", "d", "kind", "precision"),
    list(
        product(
            [1, 15, 16, 17, 63, 64, 65, 130],
            [16, 32, 64],
            ["typical", "fast_decay", "equal_keys"],
            ["bf16", "high"],
        )
    ),
)
def test_all_with_lengths_and_carried(t: int, d: int, kind: str, precision: str) -> None:
    lengths = [t, t // 2, 0]
    problem = build_problem(b=3, t=t, h=2, d=d, kind=kind, lengths=lengths, with_carried=True)
    assert_right(problem, precision, tolerance_of_decay(kind))


@pytest.mark.parametrize("t", [66, *(pytest.param(t, marks=pytest.mark.slow) for t in (128, 130))])
def test_lengths(t: int) -> None:
    # none, full, chunks wholly behind the end, the end of a chunk
    problem = build_problem(b=4, t=t, h=1, d=16, lengths=[0, t, 33, 64], with_carried=True)
    found = assert_right(problem)
    for name in ("y", *SIX):
        assert found[name][0].count_nonzero() == 0, name
        assert found[name][2, 33:].count_nonzero() == 0, name


@pytest.mark.parametrize(
    ("norm", "clip"),
    [
        (True, 0.4),
        (False, 0.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((True, 0.0), (False, 0.4))),
    ],
)
def test_carried_state(norm: bool, clip: float) -> None:
    problem = build_problem(b=1, t=9, h=2, d=32, with_carried=True, norm=norm, clip=clip)
    assert_right(problem)


def test_carried_state_at_the_floor_of_its_norm() -> None:
    problem = build_problem(b=1, t=5, h=2, d=16, with_carried=True, clip=0.0)
    assert problem.carried is not None
    assert problem.carried.squares is not None
    small = torch.tensor([1e-9, 1.0])[None, :, None]  # of two heads only the first is at it
    carried = replace(
        problem.carried,
        state=problem.carried.state * small[..., None],
        squares=problem.carried.squares * small**2,
    )
    assert_right(replace(problem, carried=carried))


def test_without_initial_state() -> None:
    for with_carried in (False, True):
        problem = build_problem(b=1, t=20, h=2, d=16, with_carried=with_carried)
        assert_right(replace(problem, initial_state=None))


@pytest.mark.parametrize(
    "block", [32, *(pytest.param(block, marks=pytest.mark.slow) for block in (16, 64))]
)
def test_rows_per_program_of_the_scans(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(sizes.forward_scan("sm_90", "bf16", 64, 96), block=block)
    for name in ("forward_scan", "backward_scan"):
        monkeypatch.setattr(sizes, name, lambda *_: chosen)
    assert_right(build_problem(b=1, t=65, h=1, d=64, lengths=[65], with_carried=True), "bf16")


def test_final_squares() -> None:
    problem = build_problem(b=2, t=9, h=2, d=64)
    outputs = launch.forward(problem.inputs, **start(problem), precision="high", keep=False)
    expected = outputs.final_state.square().unflatten(2, (4, 16)).sum((3, 4))
    assert relative_error(outputs.squares, expected) < 1e-6


def test_two_chained_calls_equal_one() -> None:
    whole = build_problem(b=1, t=60, h=1, d=16, with_carried=True)
    one = run(launch, whole, precision="high")
    cut = 23
    first, second = (
        replace(
            whole,
            inputs=Inputs(*(x[:, part].contiguous() for x in whole.inputs.tensors)),
            dy=whole.dy[:, part].contiguous(),
        )
        for part in (slice(cut), slice(cut, None))
    )
    middle = run(launch, first, precision="high")["final_state"]
    second = replace(second, initial_state=middle, carried=None)
    late = run(launch, second, precision="high")
    early = run(launch, replace(first, dfinal_state=late["initial_state"]), precision="high")
    for name in ("y", *SIX):
        assert relative_error(torch.cat((early[name], late[name]), 1), one[name]) < TOLERANCE, name
    assert relative_error(late["final_state"], one["final_state"]) < TOLERANCE
    for name in ("initial_state", "gate", "carried_state"):
        assert relative_error(early[name], one[name]) < TOLERANCE, name


def test_batch_mates_and_pads_change_nothing() -> None:
    lengths = [20, 37]
    problem = build_problem(b=2, t=40, h=1, d=16, lengths=lengths, with_carried=True)
    found = run(launch, problem, precision="high")
    other = build_problem(b=2, t=40, h=1, d=16, with_carried=True, seed=1)

    def swapped(own: Tensor, new: Tensor) -> Tensor:
        """Another mate in row 1, NaN on the pads of row 0."""
        mixed = torch.cat((own[:1], new[1:]))
        mixed[0, lengths[0] :] = float("nan")
        return mixed

    pairs = zip(problem.inputs.tensors, other.inputs.tensors, strict=True)
    inputs = Inputs(*(swapped(own, new) for own, new in pairs))
    lengths_now = torch.tensor([20, 5], dtype=torch.int32)
    changed = replace(problem, inputs=inputs, dy=swapped(problem.dy, other.dy), lengths=lengths_now)
    again = run(launch, changed, precision="high")
    for name, tensor in found.items():
        torch.testing.assert_close(again[name][0], tensor[0], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("t", "lengths"),
    [(32, None), pytest.param(40, None, marks=pytest.mark.slow), (40, [5, 40])],
)
def test_nothing_is_left_unwritten(t: int, lengths: list[int] | None) -> None:
    problem = build_problem(b=2, t=t, h=1, d=16, lengths=lengths, with_carried=True)
    found = run(launch, problem, precision="high")
    with poisoned_memory():
        again = run(launch, problem, precision="high")
    assert_equal(again, found)
    assert not any(x.isnan().any() for x in found.values())


def test_nothing_behind_the_inputs_is_read() -> None:
    problem = build_problem(b=1, t=19, h=2, d=16)
    found = run(launch, problem, precision="high")

    def guarded(x: Tensor) -> Tensor:
        """The same values, with NaN behind them in memory up to the end of the chunk."""
        buffer = torch.full((2 * 64 * x[0, 0].numel(),), float("nan"))
        return buffer[: x.numel()].view(x.shape).copy_(x)

    inputs = Inputs(*map(guarded, problem.inputs.tensors))
    again = run(launch, replace(problem, inputs=inputs, dy=guarded(problem.dy)), precision="high")
    assert_equal(again, found)


def test_closed_gate_is_no_carried_state_bit_for_bit() -> None:
    problem = build_problem(b=1, t=40, h=1, d=16, with_carried=True)
    assert problem.carried is not None
    gate = torch.zeros_like(problem.carried.gate)
    closed = replace(problem, carried=replace(problem.carried, gate=gate))
    plain = run(launch, replace(problem, carried=None), precision="high")
    assert_equal(run(launch, closed, precision="high"), plain)


def test_no_gradient_of_the_final_state_counts_as_zeros() -> None:
    problem = build_problem(b=1, t=40, h=1, d=16)
    zeros = replace(problem, dfinal_state=torch.zeros_like(problem.dfinal_state))
    expected = run(launch, zeros, precision="high")
    assert_equal(run(launch, replace(problem, dfinal_state=None), precision="high"), expected)


def test_prompt_mode_keeps_nothing_and_gives_the_same() -> None:
    problem = build_problem(b=2, t=70, h=1, d=16, lengths=[33, 70])
    call = {**start(problem), "precision": "high"}
    kept = launch.forward(problem.inputs, **call, keep=True)
    prompt = launch.forward(problem.inputs, **call, keep=False)
    assert kept.saved is not None
    assert prompt.saved is None
    for name in ("y", "final_state", "squares"):
        assert torch.equal(getattr(prompt, name), getattr(kept, name)), name


@pytest.mark.parametrize("d", [16, pytest.param(32, marks=pytest.mark.slow), 64])
@pytest.mark.parametrize("lengths", [None, [1, 0, 3]])
def test_decode_equals_forward(d: int, lengths: list[int] | None) -> None:
    problem = build_problem(b=3, t=3, h=2, d=d, lengths=lengths, with_carried=True)
    decoded = launch.decode(problem.inputs, **start(problem))
    forward = launch.forward(problem.inputs, **start(problem), precision="high", keep=False)
    assert decoded.saved is None
    for name in ("y", "final_state", "squares"):
        deviation = relative_error(getattr(decoded, name), getattr(forward, name))
        assert deviation < TOLERANCE, name
    if lengths is not None:
        assert decoded.y[1].count_nonzero() == decoded.y[0, 1:].count_nonzero() == 0
