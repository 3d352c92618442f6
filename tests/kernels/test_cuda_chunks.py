"""The CUDA chunk kernels, run on a CPU, against the formulas of kernels/README.md in float64.

Every buffer stands between guard bands; outputs start as NaN.  The bounds are those of bf16
operands: rounding once gives 1.7e-3, the kernels round two or three times on the way.
"""

import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fseed_kernels.reference import LOG_DECAY_SCALE, build_problem, relative_error
from fseed_kernels.wkv7_cuda.compile import kernel_table
from tests.kernels import emulator
from tests.kernels.emulator.buffers import Buffers

needs_compiler = pytest.mark.skipif(emulator.compiler() is None, reason="no g++ in PATH")
BOUND = {"typical": 6e-3, "fast_decay": 6e-3, "equal_keys": 2.5e-2}
# fp16 flushes At of tokens after much decay: a part of P where P is nothing of S_end (fast_decay)
P_BOUND = {"typical": 2.5e-2, "equal_keys": 2.5e-2}
TOKEN_INPUTS = ("r", "decay_logit", "k", "v", "alpha", "beta")


@dataclass(frozen=True)
class Case:
    """A call of both kernels; S and dE are drawn, not scanned."""

    kind: str
    buffers: Buffers
    b: int
    t: int
    h: int
    lengths: list[int]
    dy: Tensor
    states: Tensor

    @property
    def num_chunks(self) -> int:
        return -(-self.t // 64)


def build_case(
    *, t: int, lengths: list[int] | None = None, h: int = 1, kind: str = "typical"
) -> Case:
    b = 1 if lengths is None else len(lengths)
    problem = build_problem(b=b, t=t, h=h, kind=kind, dtype=torch.bfloat16, lengths=lengths, seed=t)
    buffers = Buffers()
    for name, value in zip(TOKEN_INPUTS, problem.inputs.tensors, strict=True):
        buffers.put(name, value)
    buffers.put("dy", problem.dy)
    if problem.lengths is not None:
        buffers.put("lengths", problem.lengths)
    chunks = (b * h, -(-t // 64))
    generator = torch.Generator().manual_seed(t)
    states, gradients = torch.randn(2, *chunks, 64, 64, generator=generator)
    for name in ("P", "N", "Q"):
        buffers.add(name, (*chunks, 64, 64), torch.bfloat16)
    buffers.add("G", (*chunks, 64), torch.float32)
    buffers.add("X", (*chunks, 64, 64), torch.float16)
    for name in ("y", *(f"d{name}" for name in TOKEN_INPUTS)):
        buffers.add(name, (b, t, h, 64), torch.bfloat16)
    case = Case(kind, buffers, b, t, h, lengths or [t] * b, problem.dy, states.bfloat16())
    for batch, head, chunk in true_chunks(case):
        gradients[batch * h + head, chunk] *= chunk_reference(case, batch, head, chunk).G.detach()
    buffers.put("states", case.states)
    buffers.put("state_gradients", gradients.bfloat16())
    return case


def run_forward(case: Case, *, keep: bool, order: str) -> None:
    names = (*TOKEN_INPUTS, "P", "N", "Q", "y", "G", "X", "lengths")
    pointers = case.buffers.pointers(*names)
    emulator.run("forward_chunk", pointers, case.b, case.t, case.h, int(keep), order=order)


def run_backward(case: Case, *, order: str) -> None:
    gradients = ("dr", "ddecay_logit", "dk", "dv", "dalpha", "dbeta")
    names = (*TOKEN_INPUTS, "dy", "states", "state_gradients", "X", *gradients, "lengths")
    pointers = case.buffers.pointers(*names)
    emulator.run("backward_chunk", pointers, case.b, case.t, case.h, order=order)


def tokens_of(case: Case, name: str) -> Tensor:
    return case.buffers[name].view(torch.bfloat16).view(case.b, case.t, case.h, 64)


def scratch_of(case: Case, name: str) -> Tensor:
    dtype = {"G": torch.float32, "X": torch.float16}.get(name, torch.bfloat16)
    buffer = case.buffers[name].view(dtype)
    return buffer.view(case.b * case.h, case.num_chunks, *([64] if name == "G" else [64, 64]))


def chunk_of(tokens: Tensor, start: int, length: int) -> Tensor:
    """Return 64 rows of [T, 64] from ``start`` in float64, zeros from ``length`` on."""
    rows = torch.zeros(64, 64, dtype=torch.float64)
    stop = min(length, start + 64)
    rows[: stop - start] = tokens[start:stop].double()
    return rows


@dataclass(frozen=True)
class Chunk:
    """The forward formulas of one chunk, with the token rows as leaves of the graph."""

    leaves: dict[str, Tensor]
    X: Tensor
    P: Tensor
    N: Tensor
    Q: Tensor
    Y: Tensor
    G: Tensor
    end: Tensor


def end_state(state: Tensor, *, P: Tensor, N: Tensor, G: Tensor) -> Tensor:
    """Return the state after the chunk, [V, K]."""
    return state * G + state @ P + N


def chunk_reference(case: Case, batch: int, head: int, chunk: int) -> Chunk:
    start, length = 64 * chunk, case.lengths[batch]
    leaves = {
        name: chunk_of(tokens_of(case, name)[batch, :, head], start, length).requires_grad_()
        for name in TOKEN_INPUTS
    }
    true = (torch.arange(64) + start < length)[:, None]
    log_decay = LOG_DECAY_SCALE * torch.sigmoid(leaves["decay_logit"]) * true
    g = log_decay.cumsum(0)
    at, rt = leaves["alpha"] * torch.exp(g - log_decay), leaves["r"] * torch.exp(g)
    bh, kh, v = leaves["beta"] * torch.exp(-g), leaves["k"] * torch.exp(-g), leaves["v"]
    total = torch.exp(g[-1])
    inverse = torch.linalg.inv(torch.eye(64, dtype=torch.float64) - (at @ bh.T).tril(-1))
    written_keys, written = inverse @ at, inverse @ ((at @ kh.T).tril(-1) @ v)
    reads_beta, reads_key = (rt @ bh.T).tril(), (rt @ kh.T).tril()
    step, added = written_keys.T @ bh * total, (v.T @ kh + written.T @ bh) * total
    state = case.states[batch * case.h + head, chunk].double()
    return Chunk(
        leaves=leaves,
        X=inverse,
        P=step,
        N=added,
        Q=rt + reads_beta @ written_keys,
        Y=reads_key @ v + reads_beta @ written,
        G=total,
        end=end_state(state, P=step, N=added, G=total),
    )


def gradient_reference(case: Case, batch: int, head: int, chunk: int) -> dict[str, Tensor]:
    """Return the six gradients of one chunk by differentiating its forward formulas."""
    reference = chunk_reference(case, batch, head, chunk)
    bh, start = batch * case.h + head, 64 * chunk
    state = case.states[bh, chunk].double()
    # the kernel is given dE diag(G)
    end_gradient = scratch_of(case, "state_gradients")[bh, chunk].double() / reference.G.detach()
    dy = chunk_of(case.dy[batch, :, head], start, case.lengths[batch])
    y = reference.Q @ state.T + reference.Y
    loss = (y * dy).sum() + (reference.end * end_gradient).sum()
    gradients = torch.autograd.grad(loss, list(reference.leaves.values()))
    return dict(zip(reference.leaves, gradients, strict=True))


def true_chunks(case: Case) -> list[tuple[int, int, int]]:
    return [
        (batch, head, chunk)
        for batch in range(case.b)
        for head in range(case.h)
        for chunk in range(-(-case.lengths[batch] // 64))
    ]


def assert_pads_are_zero(case: Case, name: str) -> None:
    for batch, length in enumerate(case.lengths):
        assert bool((tokens_of(case, name)[batch, length:] == 0).all()), f"pads of {name}"


def assert_tokens_match(case: Case, name: str, expected: Tensor, at: tuple[int, int, int]) -> None:
    batch, head, chunk = at
    start, stop = 64 * chunk, min(64 * chunk + 64, case.lengths[batch])
    actual = tokens_of(case, name)[batch, start:stop, head]
    error = relative_error(actual, expected[: stop - start])
    assert error < BOUND[case.kind], f"{name} at {at}: {error:.2e}"


CASES = [
    pytest.param({"t": 1}, "ascending", id="T1"),
    pytest.param({"t": 17}, "descending", id="T17"),
    pytest.param({"t": 64}, "ascending", id="T64"),
    pytest.param({"t": 64}, "descending", id="T64-descending"),
    pytest.param({"t": 65, "h": 2}, "ascending", id="T65-two-heads"),
    pytest.param({"t": 130, "lengths": [130, 64, 0, 37]}, "descending", id="T130-lengths"),
    pytest.param({"t": 128, "lengths": [100, 128]}, "ascending", id="T128-lengths"),
    pytest.param({"t": 64, "kind": "fast_decay"}, "ascending", id="fast-decay"),
    pytest.param({"t": 64, "kind": "equal_keys"}, "ascending", id="equal-keys"),
]


@needs_compiler
@pytest.mark.parametrize(("sizes", "order"), CASES)
def test_forward_chunk_equals_the_formulas_in_float64(sizes: dict, order: str) -> None:
    case = build_case(**sizes)
    run_forward(case, keep=True, order=order)
    for at in true_chunks(case):
        batch, head, chunk = at
        reference = chunk_reference(case, *at)
        bh = batch * case.h + head
        actual = {name: scratch_of(case, name)[bh, chunk].double() for name in "PNQGX"}
        state = case.states[bh, chunk].double()
        actual["end"] = end_state(state, P=actual["P"], N=actual["N"], G=actual["G"])
        for name, value in actual.items():
            bound = P_BOUND.get(case.kind) if name == "P" else BOUND[case.kind]
            if bound is None:
                continue
            error = relative_error(value, getattr(reference, name))
            assert error < bound, f"{name} at {at}: {error:.2e}"
        # y alone may be what is left of large products; what counts is y + Q S^T
        expected = reference.Y + (reference.Q - actual["Q"]) @ state.T
        scale = (reference.Y + reference.Q @ state.T).norm()
        y = chunk_of(tokens_of(case, "y")[batch, :, head], 64 * chunk, case.lengths[batch])
        assert (y - expected).norm() < BOUND[case.kind] * scale, f"y at {at}"
    assert_pads_are_zero(case, "y")
    case.buffers.assert_guards_untouched()


@needs_compiler
def test_forward_chunk_writes_no_inverse_unless_kept() -> None:
    case = build_case(t=17)
    run_forward(case, keep=False, order="ascending")
    assert bool((case.buffers["X"] == 0xFF).all())
    assert bool(torch.isfinite(scratch_of(case, "P")).all())


@needs_compiler
@pytest.mark.parametrize(("sizes", "order"), CASES)
def test_backward_chunk_equals_autograd_of_the_formulas(sizes: dict, order: str) -> None:
    case = build_case(**sizes)
    for batch, head, chunk in true_chunks(case):
        inverse = chunk_reference(case, batch, head, chunk).X.detach()
        scratch_of(case, "X")[batch * case.h + head, chunk] = inverse.half()
    run_backward(case, order=order)
    for at in true_chunks(case):
        for name, expected in gradient_reference(case, *at).items():
            assert_tokens_match(case, f"d{name}", expected, at)
    for name in TOKEN_INPUTS:
        assert_pads_are_zero(case, f"d{name}")
    case.buffers.assert_guards_untouched()


@needs_compiler
def test_pads_hold_anything() -> None:
    results = []
    for filling in (0.0, float("nan")):
        case = build_case(t=130, lengths=[70])
        for name in (*TOKEN_INPUTS, "dy"):
            tokens_of(case, name)[:, 70:] = filling
        run_forward(case, keep=True, order="ascending")
        run_backward(case, order="ascending")
        results.append(case.buffers)
    for name in ("P", "N", "Q", "G", "X", "y", *(f"d{name}" for name in TOKEN_INPUTS)):
        assert torch.equal(results[0][name], results[1][name]), name


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("forward_chunk", "forward_chunk.h"),
        ("forward_chained_1", "forward_chunk.h"),
        ("backward_chunk", "backward_chunk.h"),
        ("backward_chained", "backward_chunk.h"),
    ],
)
def test_shared_memory_of_the_table_is_that_of_the_source(name: str, file: str) -> None:
    source = (emulator.SOURCES / file).read_text()
    declared = re.search(r"SHARED_BYTES = (\d+)", source)
    assert declared is not None
    assert kernel_table()[name].shared_bytes == int(declared[1])
