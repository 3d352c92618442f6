"""Both backends on a GPU against float64; every run starts from poisoned memory.

The bars are those of ``error_table.Case``; always 8 heads per row, since every count is compiled.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fseed_kernels.launchers import load_launcher
from fseed_kernels.problem import Inputs, Outputs
from tests.kernels.error_table import CASES, KINDS, Case
from tests.kernels.gpu_cases import (
    SIX,
    TRITON_BF16,
    TRITON_HIGH,
    assert_equal,
    assert_right,
    each_training_case,
    gpu_only,
    problem_and_reference,
    run_poisoned,
    start,
)
from tests.kernels.problems import Problem, errors, poison_allocations, reference, relative_error

pytestmark = gpu_only


@each_training_case
@pytest.mark.parametrize("t", [1, 15, 16, 17, 63, 64, 65, 1000, 4096])
def test_any_number_of_tokens(case: Case, t: int) -> None:
    assert_right(case, b=1, t=t)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [512, 4096])
def test_kinds_of_data(case: Case, kind: str, t: int) -> None:
    assert_right(case, b=1, t=t, kind=kind)


@each_training_case
@pytest.mark.parametrize("exponent", [-40, -24, 12])  # a mean over many tokens: -24 and less
def test_gradients_scale_with_those_of_the_outputs(case: Case, exponent: int) -> None:
    problem, _ = problem_and_reference(b=2, t=200, dtype=case.dtype)
    factor = 2.0**exponent
    assert problem.dfinal_state is not None
    scaled = replace(problem, dy=problem.dy * factor, dfinal_state=problem.dfinal_state * factor)
    found, expected = run_poisoned(case, scaled), run_poisoned(case, problem)
    deviations = {
        name: relative_error(found[name].double() / factor, expected[name].double())
        for name in expected.keys() - {"y", "final_state"}
    }
    assert {name: x for name, x in deviations.items() if not x <= 1e-3} == {}


@each_training_case
def test_large_values(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=200, dtype=case.dtype)
    inputs = replace(problem.inputs, v=problem.inputs.v * 1e4)
    scaled = replace(problem, inputs=inputs)
    deviations = errors(run_poisoned(case, scaled), reference(scaled))
    bar = case.bar("typical")
    assert {name: x for name, x in deviations.items() if not x <= bar} == {}


@pytest.mark.parametrize("case", [TRITON_BF16, TRITON_HIGH], ids=str)
@pytest.mark.parametrize("d", [16, 32])
def test_small_heads(case: Case, d: int) -> None:
    assert_right(case, b=2, t=130, d=d, lengths=(130, 77))


@pytest.mark.parametrize("case", [TRITON_BF16, TRITON_HIGH], ids=str)
def test_safe_variant(case: Case) -> None:
    assert_right(case, "safe", b=2, t=130, lengths=(130, 77))


@each_training_case
@pytest.mark.parametrize("b", [36, 48])
def test_more_heads_take_other_block_sizes(case: Case, b: int) -> None:
    assert_right(case, b=b, t=128)


@each_training_case
@pytest.mark.parametrize("t", [256, 200])
def test_lengths(case: Case, t: int) -> None:
    # none, all, chunks wholly behind the end, the end of a chunk
    found = assert_right(case, b=4, t=t, lengths=(0, t, 65, 128))
    for row, length in ((0, 0), (2, 65), (3, 128)):
        for name in ("y", *SIX):
            assert found[name][row, length:].count_nonzero() == 0, (name, row)


@each_training_case
def test_carried_state_without_norm_and_clip(case: Case) -> None:
    assert_right(case, b=2, t=100, norm=False, clip=0.0)


@each_training_case
def test_without_states(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=100, dtype=case.dtype)
    bare = replace(problem, initial_state=None, carried=None)
    found = run_poisoned(case, bare)
    deviations = errors(found, reference(bare))
    assert max(deviations.values()) <= case.bar("typical")
    zeros = replace(bare, dfinal_state=torch.zeros_like(bare.dfinal_state))
    none = replace(bare, dfinal_state=None)
    assert_equal(run_poisoned(case, none), run_poisoned(case, zeros))


@each_training_case
@pytest.mark.parametrize(("t", "lengths"), [(1000, None), (4096, None), (200, (200, 70))])
def test_same_result_twice(case: Case, t: int, lengths: tuple[int, ...] | None) -> None:
    problem, _ = problem_and_reference(b=2, t=t, lengths=lengths, dtype=case.dtype)
    assert_equal(run_poisoned(case, problem), run_poisoned(case, problem))


@each_training_case
def test_two_chained_calls_equal_one(case: Case) -> None:
    whole, expected = problem_and_reference(b=2, t=300, dtype=case.dtype)
    cut = 100  # inside a chunk

    def part(tokens: slice, **changes: object) -> Problem:
        inputs = Inputs(*(x[:, tokens].contiguous() for x in whole.inputs.tensors))
        return replace(whole, inputs=inputs, dy=whole.dy[:, tokens].contiguous(), **changes)

    first = part(slice(cut))
    middle = run_poisoned(case, first)["final_state"]
    late = run_poisoned(case, part(slice(cut, None), initial_state=middle, carried=None))
    early = run_poisoned(case, replace(first, dfinal_state=late["initial_state"]))
    joined = {name: torch.cat((early[name], late[name]), 1) for name in ("y", *SIX)}
    joined |= {name: early[name] for name in ("initial_state", "gate", "carried_state")}
    deviations = errors(joined | {"final_state": late["final_state"]}, expected)
    assert max(deviations.values()) <= case.bar("typical"), deviations


@each_training_case
def test_batch_mates_and_pads_change_nothing(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=200, lengths=(70, 130), dtype=case.dtype)
    other, _ = problem_and_reference(b=2, t=200, dtype=case.dtype, seed=1)

    def swapped(own: Tensor, new: Tensor) -> Tensor:
        """Another mate in row 1, NaN on the pads of row 0."""
        mixed = torch.cat((own[:1], new[1:]))
        mixed[0, 70:] = float("nan")
        return mixed

    pairs = zip(problem.inputs.tensors, other.inputs.tensors, strict=True)
    changed = replace(
        problem,
        inputs=Inputs(*(swapped(own, new) for own, new in pairs)),
        dy=swapped(problem.dy, other.dy),
        lengths=torch.tensor([70, 200], dtype=torch.int32, device="cuda"),
    )
    found, again = run_poisoned(case, problem), run_poisoned(case, changed)
    first_rows = {name: tensor[0] for name, tensor in found.items()}
    assert_equal({name: tensor[0] for name, tensor in again.items()}, first_rows)


@each_training_case
def test_nothing_behind_the_inputs_is_read(case: Case) -> None:
    problem, _ = problem_and_reference(b=1, t=65, dtype=case.dtype)

    def guarded(x: Tensor) -> Tensor:
        """The same values, with NaN behind them in memory up to the end of the chunk."""
        buffer = torch.full((2 * x.numel(),), float("nan"), dtype=x.dtype, device=x.device)
        return buffer[: x.numel()].view(x.shape).copy_(x)

    inputs = Inputs(*map(guarded, problem.inputs.tensors))
    fenced = replace(problem, inputs=inputs, dy=guarded(problem.dy))
    assert_equal(run_poisoned(case, fenced), run_poisoned(case, problem))


@each_training_case
def test_closed_gate_is_no_carried_state_bit_for_bit(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=128, dtype=case.dtype)
    assert problem.carried is not None
    gate = torch.zeros_like(problem.carried.gate)
    closed = replace(problem, carried=replace(problem.carried, gate=gate))
    plain = run_poisoned(case, replace(problem, carried=None))
    assert_equal(run_poisoned(case, closed), plain)


@each_training_case
def test_prompt_mode_keeps_nothing(case: Case) -> None:
    problem, expected = problem_and_reference(b=2, t=200, lengths=(200, 70), dtype=case.dtype)
    launcher = load_launcher(case.backend)
    poison_allocations("cuda", gib=0.5)
    call = {**start(problem), "precision": case.precision, "keep": False}
    outputs = launcher.forward(problem.inputs, **call)
    assert outputs.saved is None
    assert_outputs_right(outputs, expected, case.bar("typical"))


def assert_outputs_right(outputs: Outputs, expected: dict[str, Tensor], bar: float) -> None:
    assert relative_error(outputs.y, expected["y"]) <= bar
    assert relative_error(outputs.final_state, expected["final_state"]) <= bar
    sums = outputs.final_state.square().unflatten(2, (-1, 16)).sum((3, 4))
    assert relative_error(outputs.squares, sums) <= 1e-6


@pytest.mark.parametrize("d", [16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_decode(d: int, dtype: torch.dtype) -> None:
    problem, expected = problem_and_reference(b=3, t=5, d=d, lengths=(5, 0, 2), dtype=dtype)
    poison_allocations("cuda", gib=0.5)
    outputs = load_launcher("triton").decode(problem.inputs, **start(problem))
    # y in bf16 is rounded to 8 bits
    assert_outputs_right(outputs, expected, 1e-5 if dtype == torch.float32 else 3e-3)
    assert relative_error(outputs.final_state, expected["final_state"]) <= 1e-5
