"""The operators around WKV7 on the kernels: custom operators with their derivatives.

B batch, T tokens, C width, H heads, D head size. The plain forms stand beside the callers:
token_mix, wkv7_inputs, mix_output, relu_squared. The kernels are imported when they first run.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fseed.ops.kernel_backends import require_kernels
from fseed.ops.kernel_dtype import kernel_dtype
from fseed_kernels.neighbours.launching import split_sums

if TYPE_CHECKING:
    from fseed.ops.wkv7_inputs import InputVectors, Projections


def norm_shift_mix_kernels(
    x: Tensor, norm: nn.LayerNorm, previous: Tensor, lengths: Tensor | None, mixes: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the M lerps [B, T, C] of the normed tokens and the vector a continuation needs.

    Raises:
        KernelUnavailable: where no kernel can run; this is the first one of a model.
    """
    if not torch.compiler.is_compiling():  # a compiler cannot trace the search for a package
        require_kernels(x.device)
    x, previous = x.contiguous(), previous.contiguous()
    mixes = mixes.contiguous()
    outs, last, _ = norm_shift_mix(
        x, norm.weight, norm.bias, previous, mixes, lengths, norm.eps, kernel_dtype(x)
    )
    return tuple(outs), last


def wkv7_inputs_kernels(
    projections: "Projections", vectors: "InputVectors", *, num_heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return decay_logit, k, v, alpha and beta [B, T, H, D]."""
    dtype = kernel_dtype(projections.k)

    def as_activation(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(dtype).contiguous()

    activations = (projections.decay_low, projections.k, projections.a_low)
    value = (projections.v_first, projections.v_low)
    head_size = projections.k.shape[-1] // num_heads
    first = projections.v_first is None
    v = projections.v.to(dtype)
    decay_logit, k, alpha, beta, v_out = wkv7_inputs(
        *(as_activation(x) for x in activations),
        *(x.flatten() for x in (vectors.w0, vectors.a0, vectors.k_k, vectors.k_a)),
        None if first else v.contiguous(),
        *(as_activation(x) for x in value),
        None if vectors.v0 is None or first else vectors.v0.flatten(),
        head_size,
    )
    outputs = (decay_logit, k, v if first else v_out, alpha, beta)
    heads = [x.unflatten(-1, (num_heads, head_size)) for x in outputs]
    return heads[0], heads[1], heads[2], heads[3], heads[4]


def mix_output_kernels(
    y: Tensor, *, r: Tensor, k: Tensor, v: Tensor, g: Tensor, r_k: Tensor, norm: nn.GroupNorm
) -> Tensor:
    """Return the normed, gated output [B, T, C]; y, r, k, v [B, T, H, D]."""
    dtype = kernel_dtype(y)
    tensors = [x.flatten(2).to(dtype).contiguous() for x in (y, r, k, v)]
    return mix_output(*tensors, g.to(dtype).contiguous(), norm.weight, norm.bias, r_k, norm.eps)


def relu_squared_kernels(x: Tensor) -> Tensor:
    """Return max(x, 0)^2."""
    return relu_squared(x.to(kernel_dtype(x)).contiguous())


@torch.library.custom_op("fseed::norm_shift_mix", mutates_args=())
def norm_shift_mix(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    previous: Tensor,
    mixes: Tensor,
    lengths: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the lerps, the last normed vector and mean and 1 / deviation of every row."""
    from fseed_kernels.neighbours import norm_shift_mix as kernels

    outs, last, statistics = kernels.forward(
        x, weight, bias, previous, mixes, lengths=lengths, eps=eps, dtype=dtype
    )
    return list(outs), last, statistics


@norm_shift_mix.register_fake
def _(x, weight, bias, previous, mixes, lengths, eps, dtype):
    b, t, c = x.shape
    outs = [torch.empty_like(x, dtype=dtype) for _ in range(mixes.shape[0])]
    return outs, *(x.new_empty(s, dtype=torch.float32) for s in ((b, c), (b, t, 2)))


@torch.library.custom_op("fseed::norm_shift_mix_backward", mutates_args=())
def norm_shift_mix_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    previous: Tensor,
    mixes: Tensor,
    statistics: Tensor,
    douts: list[Tensor],
    dlast: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x and previous, and [2 + M, C]: weight, bias, mixes."""
    from fseed_kernels.neighbours import norm_shift_mix as kernels

    inputs = (x, weight, bias, previous, mixes, statistics)
    gradients = kernels.backward(*inputs, douts, dlast, lengths=lengths)
    return gradients.x, gradients.previous, gradients.sums


@norm_shift_mix_backward.register_fake
def _(x, weight, bias, previous, mixes, statistics, douts, dlast, lengths):
    sums = x.new_empty((2 + len(douts), x.shape[2]), dtype=torch.float32)
    return torch.empty_like(x), torch.empty_like(previous), sums


def _keep_norm_shift_mix(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, lengths, _, dtype = inputs
    _, _, statistics = output
    ctx.mark_non_differentiable(statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, statistics, lengths)
    ctx.dtype = dtype


def _differentiate_norm_shift_mix(ctx: Any, douts: list[Tensor | None], dlast, _) -> tuple:
    *kept, lengths = ctx.saved_tensors
    given = [
        torch.zeros_like(kept[0], dtype=ctx.dtype) if d is None else d.contiguous() for d in douts
    ]
    dlast = None if dlast is None else dlast.contiguous()
    dx, dprevious, sums = norm_shift_mix_backward(*kept, given, dlast, lengths)
    _, weight, bias, _, mixes, _ = kept
    dweight, dbias, dmixes = split_sums(sums, weight, bias, mixes)
    return dx, dweight, dbias, dprevious, dmixes, None, None, None


norm_shift_mix.register_autograd(_differentiate_norm_shift_mix, setup_context=_keep_norm_shift_mix)


@torch.library.custom_op("fseed::wkv7_inputs", mutates_args=())
def wkv7_inputs(
    decay_low: Tensor,
    k: Tensor,
    a_low: Tensor,
    w0: Tensor,
    a0: Tensor,
    k_k: Tensor,
    k_a: Tensor,
    v: Tensor | None,
    v_first: Tensor | None,
    v_low: Tensor | None,
    v0: Tensor | None,
    head_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return decay_logit, k, alpha, beta and v; the last is empty in the first layer."""
    from fseed_kernels.neighbours import wkv7_inputs as kernels

    prepared = kernels.forward(
        *(decay_low, k, a_low, w0, a0, k_k, k_a),
        head_size=head_size,
        value=_value(v, v_first, v_low, v0),
    )
    v_out = k.new_empty(0) if prepared.v is None else prepared.v
    return prepared.decay_logit, prepared.k, prepared.alpha, prepared.beta, v_out


def _value(v: Tensor | None, v_first: Tensor | None, v_low: Tensor | None, v0: Tensor | None):
    from fseed_kernels.neighbours.wkv7_inputs import Value

    if v is None or v_first is None or v_low is None or v0 is None:
        return None
    return Value(v, v_first, v_low, v0)


@wkv7_inputs.register_fake
def _(decay_low, k, a_low, w0, a0, k_k, k_a, v, v_first, v_low, v0, head_size):
    v_out = k.new_empty(0) if v is None else torch.empty_like(k)
    return *(torch.empty_like(k) for _ in range(4)), v_out


@torch.library.custom_op("fseed::wkv7_inputs_backward", mutates_args=())
def wkv7_inputs_backward(
    k: Tensor,
    a_low: Tensor,
    w0: Tensor,
    a0: Tensor,
    k_k: Tensor,
    k_a: Tensor,
    v: Tensor | None,
    v_first: Tensor | None,
    v_low: Tensor | None,
    v0: Tensor | None,
    ddecay_logit: Tensor,
    dk: Tensor,
    dalpha: Tensor,
    dbeta: Tensor,
    dv: Tensor | None,
    head_size: int,
) -> list[Tensor]:
    """Return [4 or 5, C]: w0, a0, k_k, k_a, v0; then the gradients of k, a_low and the values."""
    from fseed_kernels.neighbours import wkv7_inputs as kernels

    gradients = kernels.backward(
        *(k, a_low, w0, a0, k_k, k_a),
        kernels.Prepared(ddecay_logit, dk, dalpha, dbeta, dv),
        head_size=head_size,
        value=_value(v, v_first, v_low, v0),
    )
    *activations, sums = gradients
    return [sums, *(x for x in activations if x is not None)]


@wkv7_inputs_backward.register_fake
def _(k, a_low, w0, a0, k_k, k_a, v, v_first, v_low, v0, ddecay_logit, dk, dalpha, dbeta, dv,
      head_size):  # fmt: skip
    sums = k.new_empty((4 if v is None else 5, k.shape[2]), dtype=torch.float32)
    return [sums, *(torch.empty_like(x) for x in (k, a_low, v, v_first, v_low) if x is not None)]


def _keep_wkv7_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, *tensors, head_size = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.head_size = head_size


def _differentiate_wkv7_inputs(ctx: Any, *gradients: Tensor | None) -> tuple:
    # asked for once: under activation checkpointing each access computes the layer again
    saved = ctx.saved_tensors
    k, _, *parameters, v, _, _, v0 = saved
    *given, dv = [torch.zeros_like(k) if g is None else g.contiguous() for g in gradients]
    dv = None if v is None else dv
    sums, dk, da_low, *of_value = wkv7_inputs_backward(*saved, *given, dv, ctx.head_size)
    if v is None:
        of_vectors = (*split_sums(sums, *parameters), None, None, None, None)
    else:
        *vectors, dv0 = split_sums(sums, *parameters, v0)
        of_vectors = (*vectors, *of_value, dv0)
    # decay_logit = w0 + decay_low: the gradient passes through
    return given[0], dk, da_low, *of_vectors, None


wkv7_inputs.register_autograd(_differentiate_wkv7_inputs, setup_context=_keep_wkv7_inputs)


@torch.library.custom_op("fseed::mix_output", mutates_args=())
def mix_output(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    weight: Tensor,
    bias: Tensor,
    r_k: Tensor,
    eps: float,
) -> Tensor:
    """Return (group_norm(y) + (sum of r k r_k per head) v) * g [B, T, C]."""
    from fseed_kernels.neighbours import mix_output as kernels

    return kernels.forward(y, r, k, v, g, weight, bias, r_k, eps=eps)


@mix_output.register_fake
def _(y, r, k, v, g, weight, bias, r_k, eps):
    return torch.empty_like(y)


@torch.library.custom_op("fseed::mix_output_backward", mutates_args=())
def mix_output_backward(
    y: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    weight: Tensor,
    bias: Tensor,
    r_k: Tensor,
    dout: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of y, r, k, v, g, and [3, C]: weight, bias, r_k."""
    from fseed_kernels.neighbours import mix_output as kernels

    found = kernels.backward(y, r, k, v, g, weight, bias, r_k, dout, eps=eps)
    return found.y, found.r, found.k, found.v, found.g, found.sums


@mix_output_backward.register_fake
def _(y, r, k, v, g, weight, bias, r_k, dout, eps):
    sums = y.new_empty((3, y.shape[2]), dtype=torch.float32)
    return *(torch.empty_like(x) for x in (y, r, k, v, g)), sums


def _keep_mix_output(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_mix_output(ctx: Any, dout: Tensor) -> tuple:
    saved = ctx.saved_tensors
    *activations, sums = mix_output_backward(*saved, dout.contiguous(), ctx.eps)
    return *activations, *split_sums(sums, *saved[5:]), None


mix_output.register_autograd(_differentiate_mix_output, setup_context=_keep_mix_output)


@torch.library.custom_op("fseed::relu_squared", mutates_args=())
def relu_squared(x: Tensor) -> Tensor:
    """Return max(x, 0)^2."""
    from fseed_kernels.neighbours import relu_squared as kernels

    return kernels.forward(x)


@relu_squared.register_fake
def _(x):
    return torch.empty_like(x)


@torch.library.custom_op("fseed::relu_squared_backward", mutates_args=())
def relu_squared_backward(x: Tensor, dout: Tensor) -> Tensor:
    """Return 2 max(x, 0) dout."""
    from fseed_kernels.neighbours import relu_squared as kernels

    return kernels.backward(x, dout)


@relu_squared_backward.register_fake
def _(x, dout):
    return torch.empty_like(x)


def _keep_relu_squared(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_relu_squared(ctx: Any, dout: Tensor) -> Tensor:
    return relu_squared_backward(*ctx.saved_tensors, dout.contiguous())


relu_squared.register_autograd(_differentiate_relu_squared, setup_context=_keep_relu_squared)
