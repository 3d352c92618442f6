"""Tokens that read on behind texts of unequal length, in their rows: as if read one by one."""

import pytest
import torch
from torch import Tensor

from fseed.ops.carried_state import CarriedState
from fseed.ops.continuation import Continuation
from fseed.ops.wkv7 import wkv7

LENGTHS, OWN, SIZE = [7, 3, 5], [4, 2, 0], 4  # of the texts, of what follows, its padded tokens
NUM_TOKENS, HEADS, HEAD_SIZE = max(LENGTHS) + SIZE, 2, 16


def build_inputs(dtype: torch.dtype) -> list[Tensor]:
    """Six inputs, an initial state, a carried one and its gate; what stands on pads is large."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tokens = (3, NUM_TOKENS, HEADS, HEAD_SIZE)
    r, decay, k, v, a = (normal(*tokens) for _ in range(5))
    kk = torch.nn.functional.normalize(normal(*tokens), dim=-1)
    inputs = [r, decay, k / 2, v, -kk, kk * torch.sigmoid(a)]
    ends = torch.tensor(LENGTHS) + torch.tensor(OWN)
    pad = torch.arange(NUM_TOKENS) >= ends.unsqueeze(1)
    inputs = [x.masked_fill(pad[:, :, None, None], 50.0) for x in inputs]
    states = [normal(3, HEADS, HEAD_SIZE, HEAD_SIZE) for _ in range(2)]
    return [x.to(dtype) for x in (*inputs, *states, normal(3, HEADS))]


def read_together(inputs: list[Tensor], backend: str) -> tuple[list[Tensor], Tensor]:
    """Return the true outputs of every row and the states behind the texts."""
    *tokens, initial, carried, gate = inputs
    lengths = torch.tensor(LENGTHS, dtype=torch.int32)
    continued = Continuation.behind(
        lengths, lengths=torch.tensor(OWN), size=SIZE, num_tokens=NUM_TOKENS
    )
    found = wkv7(
        *tokens,
        initial_state=initial,
        carried=carry(carried, gate),
        lengths=lengths,
        continued=continued,
        backend=backend,
    )
    ys = [y[: p + a] for y, p, a in zip(found.y, LENGTHS, OWN, strict=True)]
    return ys, found.final_state


def carry(state: Tensor, gate: Tensor) -> CarriedState:
    return CarriedState(state=state, squares=None, normalize=True, gate=gate, clip=0.0)


def read_apart(inputs: list[Tensor], backend: str) -> tuple[list[Tensor], Tensor]:
    """The same row by row: a text, then what follows it, from the state behind it."""
    *tokens, initial, carried, gate = inputs
    ys, states = [], []
    for i, (p, a) in enumerate(zip(LENGTHS, OWN, strict=True)):
        row = slice(i, i + 1)
        text = wkv7(
            *(x[row, :p] for x in tokens),
            initial_state=initial[row],
            carried=carry(carried[row], gate[row]),
            backend=backend,
        )
        parts = [text.y[0]]
        if a > 0:
            rest = (x[row, p : p + a] for x in tokens)
            parts.append(wkv7(*rest, initial_state=text.final_state, backend=backend).y[0])
        ys.append(torch.cat(parts))
        states.append(text.final_state)
    return ys, torch.cat(states)


def run(read, inputs: list[Tensor], backend: str) -> list[Tensor]:
    """Return outputs, states and the gradients of everything given, on true tokens."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    ys, states = read(inputs, backend)
    generator, outputs = torch.Generator().manual_seed(1), [*ys, states]
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in outputs]
    loss = sum((x * w.to(x.dtype)).sum() for x, w in zip(outputs, weights, strict=True))
    return [*outputs, *torch.autograd.grad(loss, inputs)]


def relative_error(found: Tensor, expected: Tensor) -> float:
    difference = found.detach().double() - expected.detach().double()
    return float(difference.norm() / expected.detach().double().norm())


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_reading_on_in_one_row_is_reading_one_after_the_other(backend):
    inputs = build_inputs(torch.float64)
    together, apart = (run(read, inputs, backend) for read in (read_together, read_apart))
    for found, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_kernels_read_on_as_the_reference_does():
    pytest.importorskip("triton")
    inputs = build_inputs(torch.float32)
    found = run(read_together, inputs, "triton")
    expected = run(read_together, [x.double() for x in inputs], "reference")
    for fused, plain in zip(found, expected, strict=True):
        assert relative_error(fused, plain) < 1e-5


def test_without_gradients_the_kernels_give_the_same_digits():
    pytest.importorskip("triton")
    inputs = build_inputs(torch.float32)
    with torch.no_grad():
        ys, states = read_together(inputs, "triton")
    expected_ys, expected_states = read_together([x.requires_grad_() for x in inputs], "triton")
    for found, expected in zip((*ys, states), (*expected_ys, expected_states), strict=True):
        torch.testing.assert_close(found, expected.detach())


def test_only_what_is_wanted_gets_a_gradient():
    """Neither the state nor the kernels' gate: a run without Future-Seed."""
    pytest.importorskip("triton")
    *tokens, _, _, _ = build_inputs(torch.float32)
    lengths = torch.tensor(LENGTHS, dtype=torch.int32)
    continued = Continuation.behind(
        lengths, lengths=torch.tensor(OWN), size=SIZE, num_tokens=NUM_TOKENS
    )
    tokens = [x.requires_grad_() for x in tokens]
    given = {"lengths": lengths, "continued": continued}
    gradients = [
        torch.autograd.grad(wkv7(*tokens, **given, backend=backend).y.square().sum(), tokens)
        for backend in ("triton", "chunked")
    ]
    for fused, plain in zip(*gradients, strict=True):
        assert relative_error(fused, plain) < 1e-5


def test_texts_of_unknown_length_are_refused():
    *tokens, _, _, _ = build_inputs(torch.float64)
    lengths = torch.tensor(LENGTHS)
    continued = Continuation.behind(lengths, lengths=lengths, size=SIZE, num_tokens=NUM_TOKENS)
    with pytest.raises(ValueError, match="continued needs lengths"):
        wkv7(*tokens, continued=continued)
