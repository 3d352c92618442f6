from functools import partial

import pytest
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.ops.carried_state import CarriedState
from fseed.ops.wkv7 import LOG_DECAY_SCALE, wkv7
from fseed.ops.wkv7_chunked import wkv7_chunked
from fseed.ops.wkv7_reference import wkv7_reference
from fseed_kernels.errors import KernelUnavailable

HEADS, KEY_SIZE, VALUE_SIZE = 2, 8, 12  # unequal, so that a transposed state cannot pass


def build_inputs(
    num_tokens: int, *, kind: str = "typical", dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """r, log_decay, k, v, alpha, beta and a non-symmetric state; kinds stress decay and keys."""
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
    return [x.to(dtype).requires_grad_() for x in (r, log_decay, k, v, -kk, kk * a, state)]


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


def naive_loop(r, log_decay, k, v, alpha, beta, state):
    """The recurrence once more, element by element, from the definition."""
    outputs = []
    for t in range(r.shape[1]):
        keep = torch.diag_embed(log_decay[:, t].exp())
        replace = alpha[:, t].unsqueeze(-1) @ beta[:, t].unsqueeze(-2)
        state = state @ (keep + replace) + v[:, t].unsqueeze(-1) @ k[:, t].unsqueeze(-2)
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


def through_entry(r, log_decay, k, v, alpha, beta, state, *, lengths=None, backend="chunked"):
    """Call wkv7, which takes the logit of the decay."""
    decay_logit = torch.logit(log_decay / LOG_DECAY_SCALE)
    lengths = None if lengths is None else torch.tensor(lengths)
    inputs = (r, decay_logit, k, v, alpha, beta)
    return wkv7(*inputs, initial_state=state, lengths=lengths, backend=backend)[:2]


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_pads_are_exact_identities_and_their_output_is_zero(backend: str):
    inputs = [x.detach() for x in build_inputs(21)]
    y, final = through_entry(*inputs, lengths=[21, 13], backend=backend)
    alone = [x[1:, :13] for x in inputs[:6]]
    y_alone, final_alone = through_entry(*alone, inputs[6][1:], backend=backend)
    assert relative_error(final[1:], final_alone) < 1e-14
    assert relative_error(y[1:, :13], y_alone) < 1e-14
    assert y[1, 13:].abs().max() == 0


def test_a_fully_masked_sequence_returns_its_initial_state_bit_for_bit():
    inputs = [x.detach().float() for x in build_inputs(40)]
    _, final = through_entry(*inputs, lengths=[0, 0])
    assert torch.equal(final, inputs[6])


def test_the_scan_starts_from_the_sum_of_explicit_and_carried_state():
    inputs = [x.detach() for x in build_inputs(7)]
    below, gate = inputs[6] * 3, torch.rand(2, HEADS, dtype=torch.float64)
    carried = CarriedState(state=below, squares=None, normalize=True, gate=gate, clip=0.5)
    rms = below.square().mean((2, 3), keepdim=True).sqrt()
    start = inputs[6] + (gate[:, :, None, None] * below / rms).clamp(-0.5, 0.5)
    decay_logit = torch.logit(inputs[1] / LOG_DECAY_SCALE)
    tensors = (inputs[0], decay_logit, *inputs[2:6])
    actual = wkv7(*tensors, initial_state=inputs[6], carried=carried)
    expected = wkv7(*tensors, initial_state=start)
    torch.testing.assert_close(actual[:2], expected[:2], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("cut", [1, 16, 20, 39])
def test_split_equals_whole(cut: int):
    *inputs, state = (x.detach() for x in build_inputs(40))
    y, final = through_entry(*inputs, state)
    y1, middle = through_entry(*(x[:, :cut] for x in inputs), state)
    y2, end = through_entry(*(x[:, cut:] for x in inputs), middle)
    assert relative_error(torch.cat((y1, y2), 1), y) < 1e-13
    assert relative_error(end, final) < 1e-13


def test_bf16_inputs_keep_a_float32_state():
    inputs = [x.detach().bfloat16() for x in build_inputs(33)[:6]]
    y, final, _ = wkv7(*inputs)
    assert y.dtype == torch.bfloat16
    assert final.dtype == torch.float32


def test_an_unknown_backend_is_refused_not_replaced():
    inputs = build_inputs(3)[:6]
    with pytest.raises(UserError, match="'tritn' does not exist; allowed: reference, chunked, tri"):
        wkv7(*inputs, backend="tritn")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run where there is a GPU")
def test_the_cuda_kernels_are_refused_on_a_cpu_not_replaced():
    inputs = [torch.zeros(2, 3, HEADS, 64) for _ in range(6)]
    with pytest.raises(KernelUnavailable, match="cuda cannot run here: it needs a CUDA device"):
        wkv7(*inputs, backend="cuda")


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
