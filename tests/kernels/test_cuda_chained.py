"""The forward pass in one launch equals the two launches bit for bit, and waits where it has to."""

import ctypes
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import Outputs
from fseed_kernels.self_check import HEAD_LIMITS
from fseed_kernels.wkv7_cuda import launch
from fseed_kernels.wkv7_cuda.compile import kernel_table
from fseed_kernels.wkv7_cuda.load import parameters_of

from . import emulator
from .problems import Problem, build_problem
from .test_cuda_launch import emulated, forward, needs_emulator, needs_gpu

FORMS = list(launch.CHAINED_HEADS)


class Emulated:
    """A chained kernel on host memory, called as on a GPU; ``flags`` are those of the last call."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.flags: list[int] = []
        self.blocks_left_out = 0

    def kernel(self, name: str) -> Callable[[tuple[int, int], int, Sequence[float]], None]:
        def call(grid: tuple[int, int], stream: int, values: Sequence[float]) -> None:
            packed = parameters_of(name).values.pack(*values)
            run = getattr(emulator.load("forward_chained"), f"{name}_cpu")
            blocks = grid[0] - self.blocks_left_out
            failed = run(ctypes.c_char_p(packed), blocks, emulator.ORDERS[self.order])
            if failed:
                raise RuntimeError(emulator.FAILURES[failed])
            t, (address, heads, _) = int(values[13]), (int(value) for value in values[-3:])
            self.flags = list((ctypes.c_int * (heads * -(-t // 64))).from_address(address))

        return call

    @contextmanager
    def open_device(self, device: torch.device) -> Iterator[tuple[Mapping[str, Callable], int]]:
        kernels = {name: emulated(name) for name in kernel_table()}
        yield kernels | {name: self.kernel(name) for name in kernels if "_chained_" in name}, 0


def use_emulator(monkeypatch: pytest.MonkeyPatch, order: str, max_scans: int = 99) -> Emulated:
    emulated_kernels = Emulated(order)
    monkeypatch.setattr(launch, "open_device", emulated_kernels.open_device)
    monkeypatch.setattr(launch, "num_multiprocessors", lambda device: max_scans)
    return emulated_kernels


def true_chunks(problem: Problem) -> Tensor:
    """Return which chunks have tokens, [B * H, NC]; the scratch of others is never written."""
    b, t, h, _ = problem.inputs.sizes
    lengths = torch.full((b,), t) if problem.lengths is None else problem.lengths.cpu()
    starts = torch.arange(0, t, 64)
    return (starts < lengths[:, None]).repeat_interleave(h, dim=0)


def tensors(outputs: Outputs, problem: Problem) -> dict[str, Tensor]:
    found = {"y": outputs.y, "final_state": outputs.final_state, "squares": outputs.squares}
    if outputs.saved is not None:
        is_true = true_chunks(problem).to(outputs.y.device)
        found |= {name: tensor[is_true] for name, tensor in vars(outputs.saved).items()}
    return found


def assert_equal(found: Outputs, expected: Outputs, problem: Problem) -> None:
    wanted = tensors(expected, problem)
    for name, tensor in tensors(found, problem).items():
        assert torch.equal(tensor, wanted[name]), name


CASES = [
    # order of the emulator, T, lengths, heads per sample, scans at a time
    ("ascending", 200, [200, 64], 1, 99),
    ("descending", 200, [70, 200], 1, 99),  # the second head of a scan is the longer one
    ("ascending", 65, [65, 0, 3], 1, 1),  # groups of one scan, an odd number of heads
    ("descending", 64, None, 3, 2),
]


@needs_emulator
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("order", "t", "lengths", "h", "max_scans"), CASES)
def test_equal_to_two_launches(
    form: str,
    order: str,
    t: int,
    lengths: list[int] | None,
    h: int,
    max_scans: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = use_emulator(monkeypatch, order, max_scans)
    b = 1 if lengths is None else len(lengths)
    problem = build_problem(b=b, t=t, h=h, dtype=torch.bfloat16, lengths=lengths, with_carried=True)
    found = forward(problem, form=form)
    assert_equal(found, forward(problem, form="rows"), problem)
    assert kernels.flags == true_chunks(problem).int().flatten().tolist()


@needs_emulator
@pytest.mark.parametrize("form", FORMS)
def test_nothing_kept(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_emulator(monkeypatch, "ascending")
    problem = build_problem(b=1, t=65, h=1, dtype=torch.bfloat16)
    found = forward(problem, form=form, keep=False)
    assert found.saved is None
    assert_equal(found, forward(problem, form="rows", keep=False), problem)


@needs_emulator
@pytest.mark.parametrize("form", FORMS)
def test_a_scan_waits_for_every_chunk(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = use_emulator(monkeypatch, "ascending")
    problem = build_problem(b=1, t=130, h=1, dtype=torch.bfloat16)
    kernels.blocks_left_out = launch.CHAINED_HEADS[form]  # the last chunk, and an empty head's
    with pytest.raises(RuntimeError, match="deadlock"):
        forward(problem, form=form)


@pytest.mark.parametrize(
    ("num_heads", "heads_per_scan", "max_scans", "group"),
    [
        (96, 1, 132, 96),
        (96, 2, 132, 96),
        (97, 2, 132, 98),
        (133, 1, 132, 67),
        (384, 1, 132, 128),
        (384, 2, 132, 128),
        (384, 2, 40, 78),
        (1, 2, 132, 2),
    ],
)
def test_groups(num_heads: int, heads_per_scan: int, max_scans: int, group: int) -> None:
    assert launch.chained_group(num_heads, heads_per_scan, max_scans) == group


def test_form_of_the_forward_pass() -> None:
    forms = {launch.forward_form(num_heads) for num_heads in range(1, 400)}
    assert forms <= set(launch.SCAN_CTAS) | set(launch.CHAINED_HEADS)
    # within one kind of call that the self-check knows, the form is one
    limits = (0, *HEAD_LIMITS, 400)
    for first, last in itertools.pairwise(limits):
        assert len({launch.forward_form(n) for n in range(first + 1, last + 1)}) == 1


@pytest.fixture
def new_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make sure that nobody finds the right values of an earlier run before they are written."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("new_memory_is_nan")
def test_new_memory_is_nan() -> None:
    assert torch.empty(1).new_empty(8, dtype=torch.bfloat16).isnan().all()
    assert (torch.empty(1).new_zeros(8, dtype=torch.int32) == 0).all()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("new_memory_is_nan")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("b", "t", "h", "lengths"),
    [
        (1, 1, 1, None),
        (2, 513, 3, [513, 130]),
        (8, 1024, 12, None),
        (5, 700, 61, [700, 64, 0, 699, 1]),  # 305 heads: several groups
    ],
)
def test_equal_on_a_gpu(
    form: str, keep: bool, b: int, t: int, h: int, lengths: list[int] | None
) -> None:
    problem = build_problem(
        b=b, t=t, h=h, dtype=torch.bfloat16, device="cuda", lengths=lengths, with_carried=True
    )
    expected = forward(problem, form="rows", keep=keep)
    for _ in range(10):  # what is not waited for shows now and then
        assert_equal(forward(problem, form=form, keep=keep), expected, problem)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("new_memory_is_nan")
@pytest.mark.parametrize("form", FORMS)
def test_graph_replays_twice(form: str) -> None:
    """The flags are cleared by the graph itself."""
    problem = build_problem(b=4, t=300, h=12, dtype=torch.bfloat16, device="cuda")
    expected = forward(problem, form=form)  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward(problem, form=form)
    for _ in range(2):
        for tensor in tensors(captured, problem).values():
            tensor.fill_(torch.nan)
        captured.y.fill_(torch.nan)
        graph.replay()
        assert_equal(captured, expected, problem)
