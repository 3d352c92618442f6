"""The CUDA launcher: on a CPU with emulated kernels, on a GPU with its forms and graphs."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.launchers import Launcher
from fseed_kernels.self_check import run
from fseed_kernels.wkv7_cuda import launch
from fseed_kernels.wkv7_cuda.compile import kernel_table
from fseed_kernels.wkv7_cuda.load import parameters_of

from . import emulator, test_cuda_scans
from .problems import Problem, build_problem, errors, reference

HAS_GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="no CUDA device")
needs_emulator = pytest.mark.skipif(
    emulator.compiler() is None, reason="no g++ in PATH: the CUDA sources cannot run on a CPU"
)
TOLERANCE = 8e-3
CUDA = Launcher(launch.forward, launch.backward, launch.forward)


def emulated(name: str) -> Callable[[tuple[int, int], int, Sequence[float]], None]:
    """Return a kernel that runs on host memory, called as on a GPU."""

    def kernel(grid: tuple[int, int], stream: int, values: Sequence[float]) -> None:
        packed = parameters_of(name).values.pack(*values)  # count and types fit
        if name == "backward_chained":
            run_chained_backward(packed, grid[0])
            return
        if "_scan_" in name:
            test_cuda_scans.launch(name, values, grid[1], "ascending")
            return
        pointers = [int(x) or None for x in values[: -3 if name == "forward_chunk" else -2]]
        t, heads, *keep = (int(x) for x in values[len(pointers) :])
        sizes = (grid[1] // heads, t, heads, *keep)
        assert grid[0] == -(-t // 64)
        emulator.run(name, pointers, *sizes, order="ascending")

    return kernel


def run_chained_backward(
    packed: bytes, blocks: int, *, order: str = "ascending", backwards: bool = False
) -> None:
    """Run the kernel on its packed parameters, its last block first if ``backwards``.

    Raises:
        RuntimeError: naming what the emulator found.
    """
    run = emulator.load("backward_chained").backward_chained_cpu
    failed = run(ctypes.c_char_p(packed), blocks, emulator.ORDERS[order], backwards)
    if failed:
        raise RuntimeError(emulator.FAILURES[failed])


@contextmanager
def emulated_device(device: torch.device) -> Iterator[tuple[Mapping[str, Callable], int]]:
    yield {name: emulated(name) for name in kernel_table()}, 0


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "open_device", emulated_device)


@needs_emulator
@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(("t", "lengths", "norm"), [(65, None, False), (130, [130, 70], True)])
def test_whole_operator(t: int, lengths: list[int] | None, norm: bool) -> None:
    problem = build_problem(
        b=2, t=t, h=1, dtype=torch.bfloat16, lengths=lengths, with_carried=True, norm=norm
    )
    found = errors(run(CUDA, problem, precision="bf16"), reference(problem))
    assert max(found.values()) < TOLERANCE, found


def scaled_gradients(problem: Problem, factor: float) -> Problem:
    assert problem.dfinal_state is not None
    return replace(problem, dy=problem.dy * factor, dfinal_state=problem.dfinal_state * factor)


@needs_emulator
@pytest.mark.usefixtures("on_cpu")
def test_gradients_scale_with_those_of_the_outputs_bit_for_bit() -> None:
    problem = build_problem(b=1, t=70, h=1, dtype=torch.bfloat16, with_carried=True)
    expected = run(CUDA, problem, precision="bf16")
    for exponent in (-60, -40, -24, 12):  # a mean over many tokens gives 2^-24 and less
        factor = 2.0**exponent
        found = run(CUDA, scaled_gradients(problem, factor), precision="bf16")
        for name in expected.keys() - {"y", "final_state"}:
            assert torch.equal(found[name], expected[name] * factor), (name, exponent)


@needs_emulator
@pytest.mark.usefixtures("on_cpu")
def test_large_values() -> None:
    problem = build_problem(b=1, t=70, h=1, dtype=torch.bfloat16)
    inputs = replace(problem.inputs, v=problem.inputs.v * 1e4)
    problem = replace(problem, inputs=inputs)
    found = errors(run(CUDA, problem, precision="bf16"), reference(problem))
    assert max(found.values()) < TOLERANCE, found


@needs_emulator
@pytest.mark.usefixtures("on_cpu")
def test_prompt_mode_keeps_nothing() -> None:
    problem = build_problem(b=1, t=65, h=1, dtype=torch.bfloat16)
    outputs = [forward(problem, keep=keep) for keep in (True, False)]
    assert outputs[0].saved is not None
    assert outputs[1].saved is None
    assert torch.equal(outputs[0].y, outputs[1].y)
    assert torch.equal(outputs[0].final_state, outputs[1].final_state)
    squares = outputs[0].final_state.square().unflatten(2, (4, 16)).sum((3, 4))
    torch.testing.assert_close(outputs[0].squares, squares)


def forward(problem: Problem, **options: bool | str) -> launch.Outputs:
    return launch.forward(
        problem.inputs,
        initial_state=problem.initial_state,
        carried=problem.carried,
        lengths=problem.lengths,
        **({"precision": "bf16", "keep": True} | options),
    )


@pytest.mark.parametrize(
    ("changes", "precision", "message"),
    [
        ({"d": 32}, "bf16", "head size 64, not 32"),
        ({"dtype": torch.float32}, "bf16", "not in 'bf16' on torch.float32"),
        ({}, "high", "not in 'high'"),
    ],
)
def test_refused(changes: dict[str, object], precision: str, message: str) -> None:
    problem = build_problem(**({"t": 1, "dtype": torch.bfloat16} | changes))
    with pytest.raises(KernelUnavailable, match=message):
        forward(problem, precision=precision)


def test_refused_on_a_cpu() -> None:
    with pytest.raises(KernelUnavailable, match="a CUDA device, not on cpu"):
        forward(build_problem(t=1, dtype=torch.bfloat16))


@needs_emulator
@pytest.mark.usefixtures("on_cpu")
def test_a_view_at_an_odd_address_is_refused() -> None:
    problem = build_problem(b=1, t=1, h=1, dtype=torch.bfloat16)
    odd = torch.zeros(65, dtype=torch.bfloat16)[1:].view(1, 1, 1, 64)
    with pytest.raises(ValueError, match="no multiple of 16 bytes"):
        forward(replace(problem, inputs=replace(problem.inputs, k=odd)))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("t", "lengths"), [(1000, None), (513, [513, 130])])
def test_forms_are_equal_bit_for_bit(t: int, lengths: list[int] | None) -> None:
    problem = build_problem(
        t=t, h=4, dtype=torch.bfloat16, device="cuda", lengths=lengths, with_carried=True
    )
    first = run_forms(problem, "rows", "rows")
    for form in launch.SCAN_CTAS:
        for name, tensor in run_forms(problem, form, "chained").items():
            assert torch.equal(tensor, first[name]), (form, name)


def run_forms(problem: Problem, forward_form: str, backward_form: str) -> dict[str, Tensor]:
    launcher = replace(
        CUDA,
        forward=partial(launch.forward, form=forward_form),
        backward=partial(launch.backward, form=backward_form),
    )
    return run(launcher, problem, precision="bf16")


@pytest.mark.gpu
@needs_gpu
def test_graph_replays_what_was_captured() -> None:
    problem = build_problem(t=130, h=4, dtype=torch.bfloat16, device="cuda", with_carried=True)
    expected = run(CUDA, problem, precision="bf16")  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(CUDA, problem, precision="bf16")
    for tensor in captured.values():
        tensor.fill_(torch.nan)
    graph.replay()
    for name, tensor in captured.items():
        assert torch.equal(tensor, expected[name]), name
