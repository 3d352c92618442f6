"""The backward pass in one launch equals that in two bit for bit, and waits where it has to."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import Outputs
from fseed_kernels.wkv7_cuda import launch
from fseed_kernels.wkv7_cuda.compile import kernel_table
from fseed_kernels.wkv7_cuda.load import parameters_of

from .problems import Problem, build_problem
from .test_cuda_launch import (
    emulated,
    forward,
    needs_emulator,
    needs_gpu,
    run_chained_backward,
)


class Emulated:
    """The chained kernel on host memory, called as on a GPU; ``flags`` are those of the last call.

    ``backwards``: its last block runs first.
    """

    def __init__(self, order: str, *, backwards: bool) -> None:
        self.order, self.backwards = order, backwards
        self.flags: list[int] = []

    def __call__(self, grid: tuple[int, int], stream: int, values: Sequence[float]) -> None:
        packed = parameters_of("backward_chained").values.pack(*values)
        run_chained_backward(packed, grid[0], order=self.order, backwards=self.backwards)
        t, (address, heads, _) = int(values[14]), (int(value) for value in values[-3:])
        self.flags = list((ctypes.c_int * (heads * -(-t // 64))).from_address(address))

    @contextmanager
    def open_device(self, device: torch.device) -> Iterator[tuple[Mapping[str, Callable], int]]:
        kernels: dict[str, Callable] = {name: emulated(name) for name in kernel_table()}
        yield kernels | {"backward_chained": self}, 0


def use_emulator(
    monkeypatch: pytest.MonkeyPatch,
    order: str = "ascending",
    *,
    group: int = 99,
    backwards: bool = False,
) -> Emulated:
    kernels = Emulated(order, backwards=backwards)
    monkeypatch.setattr(launch, "open_device", kernels.open_device)
    monkeypatch.setattr(launch, "BACKWARD_GROUP", group)
    return kernels


def backward(problem: Problem, outputs: Outputs, **options: Any) -> dict[str, Tensor]:
    assert outputs.saved is not None
    gradients = launch.backward(
        problem.inputs,
        outputs.saved,
        problem.dy,
        problem.dfinal_state,
        carried=problem.carried,
        lengths=problem.lengths,
        precision="bf16",
        **options,
    )
    return {name: tensor for name, tensor in vars(gradients).items() if tensor is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


CASES = [
    # order of the emulator, T, lengths, heads per sample, heads of a group
    ("ascending", 577, None, 1, 99),  # more chunks than stages
    ("descending", 200, [70, 200], 1, 99),
    ("ascending", 65, [65, 0, 3], 1, 2),  # groups of two heads, the last with one
    ("descending", 64, None, 3, 1),
]


@needs_emulator
@pytest.mark.parametrize(("order", "t", "lengths", "h", "group"), CASES)
def test_equal_to_two_launches(
    order: str,
    t: int,
    lengths: list[int] | None,
    h: int,
    group: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = use_emulator(monkeypatch, order, group=group)
    b = 1 if lengths is None else len(lengths)
    problem = build_problem(b=b, t=t, h=h, dtype=torch.bfloat16, lengths=lengths, with_carried=True)
    outputs = forward(problem)
    expected = backward(problem, outputs, form="rows", needs_carried=True)
    assert all(tensor.isfinite().all() for tensor in expected.values())
    assert_equal(backward(problem, outputs, form="chained", needs_carried=True), expected)
    # a flag for every chunk with tokens
    starts = torch.arange(0, t, 64)
    true = starts < torch.tensor(lengths or [t] * b)[:, None]
    assert kernels.flags == true.repeat_interleave(h, dim=0).int().flatten().tolist()


@needs_emulator
def test_a_chunk_waits_for_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    use_emulator(monkeypatch, backwards=True)
    problem = build_problem(b=1, t=65, h=1, dtype=torch.bfloat16)
    outputs = forward(problem)
    with pytest.raises(RuntimeError, match="deadlock"):
        backward(problem, outputs, form="chained")


@needs_emulator
@pytest.mark.parametrize("form", ["rows", "chained"])
@pytest.mark.parametrize("needs_carried", [False, True])
def test_a_frozen_gate_has_no_gradient(
    form: str, needs_carried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_emulator(monkeypatch)
    problem = build_problem(b=1, t=65, h=1, dtype=torch.bfloat16, with_carried=True)
    outputs = forward(problem)
    expected = backward(problem, outputs, form=form, needs_carried=needs_carried)
    del expected["gate"]
    found = backward(problem, outputs, form=form, needs_carried=needs_carried, needs_gate=False)
    assert_equal(found, expected)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("b", "t", "h", "lengths"),
    [
        (1, 1, 1, None),
        (2, 513, 3, [513, 130]),
        (8, 1024, 12, None),
        (5, 700, 61, [700, 64, 0, 699, 1]),  # 305 heads: several groups
    ],
)
def test_equal_on_a_gpu(b: int, t: int, h: int, lengths: list[int] | None) -> None:
    problem = build_problem(
        b=b, t=t, h=h, dtype=torch.bfloat16, device="cuda", lengths=lengths, with_carried=True
    )
    outputs = forward(problem)
    expected = backward(problem, outputs, form="rows", needs_carried=True)
    for _ in range(10):  # what is not waited for shows now and then
        assert_equal(backward(problem, outputs, form="chained", needs_carried=True), expected)


@pytest.mark.gpu
@needs_gpu
def test_graph_replays_twice() -> None:
    """The flags are cleared by the graph itself."""
    problem = build_problem(b=4, t=300, h=12, dtype=torch.bfloat16, device="cuda")
    outputs = forward(problem)
    expected = backward(problem, outputs, form="chained")  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = backward(problem, outputs, form="chained")
    for _ in range(2):
        for tensor in captured.values():
            tensor.fill_(torch.nan)
        graph.replay()
        assert_equal(captured, expected)
