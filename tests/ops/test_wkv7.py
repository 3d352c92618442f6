from functools import partial

import pytest
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.ops.wkv7 import wkv7
from fseed.ops.wkv7_chunked import wkv7_chunked
from fseed.ops.wkv7_reference import wkv7_reference

HEADS, KEY_SIZE, VALUE_SIZE = 2, 8, 12  # unequal, so that a transposed state cannot pass


def build_inputs(
    num_tokens: int, *, kind: str = "typical", dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """r, log_decay, k, v, kk, a and a non-symmetric state; kinds stress decay and equal keys."""
    generator = torch.Generator().manual_seed(num_tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    size = (2, num_tokens, HEADS, KEY_SIZE)
    r, k, v = normal(*size), normal(*size) / 2, normal(2, num_tokens, HEADS, VALUE_SIZE)
    kk, a = torch.nn.functional.normalize(normal(*size), dim=-1), torch.sigmoid(2 * normal(*size))
    log_decay = -0.6065306597 * torch.sigmoid(3 * normal(*size))
    if kind == "fast_decay":
        log_decay = -0.6065306597 * torch.sigmoid(8 + normal(*size))
    if kind == "equal_keys":
        kk, a = kk[:, :1].expand(size).contiguous(), torch.sigmoid(3 + 0 * a)
        log_decay = -1e-3 * torch.rand(size, generator=generator, dtype=torch.float64)
    state = normal(2, HEADS, VALUE_SIZE, KEY_SIZE)
    return [x.to(dtype).requires_grad_() for x in (r, log_decay, k, v, kk, a, state)]


def run_with_gradients(op, inputs: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    outputs = op(*inputs)
    weights = [
        torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs
    ]
    loss = sum((o * w).sum() for o, w in zip(outputs, weights, strict=True))
    return [*outputs, *torch.autograd.grad(loss, inputs)]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm())


def naive_loop(r, log_decay, k, v, kk, a, state):
    """The recurrence once more, element by element, from the definition."""
    outputs = []
    for t in range(r.shape[1]):
        keep = torch.diag_embed(log_decay[:, t].exp())
        erase = kk[:, t].unsqueeze(-1) @ (kk[:, t] * a[:, t]).unsqueeze(-2)
        state = state @ (keep - erase) + v[:, t].unsqueeze(-1) @ k[:, t].unsqueeze(-2)
        outputs.append(torch.einsum("bhvk,bhk->bhv", state, r[:, t]))
    return torch.stack(outputs, 1), state


def test_reference_is_the_definition():
    inputs = build_inputs(9)
    for actual, expected in zip(
        run_with_gradients(wkv7_reference, inputs),
        run_with_gradients(naive_loop, inputs),
        strict=True,
    ):
        assert relative_error(actual, expected) < 1e-13


@pytest.mark.parametrize("num_tokens", [1, 15, 16, 17, 63, 64, 65, 128])
@pytest.mark.parametrize("kind", ["typical", "fast_decay", "equal_keys"])
def test_chunked_equals_reference_in_outputs_and_every_gradient(num_tokens: int, kind: str):
    inputs = build_inputs(num_tokens, kind=kind)
    expected = run_with_gradients(wkv7_reference, inputs)
    for chunk_size in (None, 64):
        op = partial(wkv7_chunked, chunk_size=chunk_size)
        actual = run_with_gradients(op, inputs)
        errors = [relative_error(x, y) for x, y in zip(actual, expected, strict=True)]
        assert max(errors) < 1e-10, errors


@pytest.mark.parametrize("kind", ["typical", "fast_decay", "equal_keys"])
def test_chunked_in_float32_stays_near_float64(kind: str):
    exact = run_with_gradients(wkv7_reference, build_inputs(128, kind=kind))
    rounded = run_with_gradients(wkv7_chunked, build_inputs(128, kind=kind, dtype=torch.float32))
    errors = [relative_error(x, y) for x, y in zip(rounded, exact, strict=True)]
    assert max(errors) < 2e-5, errors


def test_gradients_equal_finite_differences():
    inputs = [x.detach()[:1, :, :1].requires_grad_() for x in build_inputs(5)[:6]]
    state = build_inputs(5)[6].detach()[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(wkv7_chunked, (*inputs, state))


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_pads_are_exact_identities(backend: str):
    *inputs, state = (x.detach() for x in build_inputs(21))
    mask = torch.arange(21) < torch.tensor([[21], [13]])
    y, final = wkv7(*inputs, initial_state=state, mask=mask, backend=backend)
    alone = [x[1:, :13] for x in inputs]
    y_alone, final_alone = wkv7(*alone, initial_state=state[1:], backend=backend)
    assert relative_error(final[1:], final_alone) < 1e-14
    assert relative_error(y[1:, :13], y_alone) < 1e-14


def test_a_fully_masked_sequence_returns_its_initial_state_bit_for_bit():
    *inputs, state = (x.detach().float() for x in build_inputs(40))
    _, final = wkv7(*inputs, initial_state=state, mask=torch.zeros(2, 40, dtype=torch.bool))
    assert torch.equal(final, state)


@pytest.mark.parametrize("cut", [1, 16, 20, 39])
def test_split_equals_whole(cut: int):
    *inputs, state = (x.detach() for x in build_inputs(40))
    y, final = wkv7(*inputs, initial_state=state)
    y1, middle = wkv7(*(x[:, :cut] for x in inputs), initial_state=state)
    y2, end = wkv7(*(x[:, cut:] for x in inputs), initial_state=middle)
    assert relative_error(torch.cat((y1, y2), 1), y) < 1e-13
    assert relative_error(end, final) < 1e-13


def test_bf16_inputs_keep_a_float32_state():
    *inputs, _ = (x.detach().bfloat16() for x in build_inputs(33))
    y, final = wkv7(*inputs)
    assert y.dtype == torch.bfloat16
    assert final.dtype == torch.float32


def test_unknown_backend_is_refused_not_replaced():
    *inputs, _ = build_inputs(3)
    with pytest.raises(UserError, match=r"'triton' cannot run here; available: reference, chunked"):
        wkv7(*inputs, backend="triton")


def test_a_first_call_in_inference_mode_leaves_later_gradients_intact():
    inputs = build_inputs(8, dtype=torch.float32)
    with torch.inference_mode():
        wkv7_chunked(*inputs, chunk_size=8)
    assert len(run_with_gradients(partial(wkv7_chunked, chunk_size=8), inputs)) == 9


def test_second_derivatives_are_refused_not_wrong():
    inputs = build_inputs(8)
    y, _ = wkv7_chunked(*inputs)
    (gradient,) = torch.autograd.grad(y.square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
