"""Both ends of the vocabulary on the kernels: custom operators with their derivatives.

N rows, C width, V vocabulary. The plain forms stand beside the callers: linear_cross_entropy,
embed_tokens. The kernels are imported when they first run.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.kernel_backends import require_kernels
from fseed.ops.kernel_dtype import kernel_dtype

# logits of one chunk of rows. 2048 rows of 65,536 in bf16, 1024 in float32: 2048 * 65,536 * 2 bytes
# are 256 MiB. Every chunk reads the table and adds to its gradient, 100 + 400 MB or 0.2 ms of an
# H100 for C = 768; its three products take 6 * 2048 * 65,536 * 768 operations, 0.9 ms
LOGITS_BYTES = 2**28


def linear_cross_entropy_kernels(
    hidden: Tensor, weight: Tensor, targets: Tensor, num_targets: Tensor | None
) -> Tensor:
    """Return the mean loss of the rows that count, float32.

    Raises:
        KernelUnavailable: where no kernel can run.
    """
    if not torch.compiler.is_compiling():  # a compiler cannot trace the search for a package
        require_kernels(hidden.device)
    if num_targets is None:
        num_targets = (targets >= 0).sum()
    with_gradient = torch.is_grad_enabled()
    loss, _, _ = linear_cross_entropy(
        *(hidden.contiguous(), weight.contiguous(), targets.long().contiguous()),
        num_targets.float(),
        kernel_dtype(hidden),
        with_gradient and hidden.requires_grad,
        with_gradient and weight.requires_grad,
    )
    return loss


def chunk_rows(vocab_size: int, dtype: torch.dtype) -> int:
    """Return how many rows of logits are held at once."""
    return max(1, LOGITS_BYTES // (vocab_size * dtype.itemsize))


@torch.library.custom_op("fseed::linear_cross_entropy", mutates_args=())
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    num_targets: Tensor,
    dtype: torch.dtype,
    needs_hidden: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, dhidden like hidden and dweight [V, C] float32; empty where not needed.

    Products are of ``dtype`` with float32 sums. The gradients are those of the loss itself: the
    backward pass only multiplies them with the gradient of the loss.
    """
    from fseed_kernels.neighbours import cross_entropy as kernels

    dhidden, dweight = _gradients(hidden, weight, needs_hidden, needs_weight)
    scale, num_rows = num_targets.reciprocal(), hidden.shape[0]
    losses = hidden.new_empty(num_rows, dtype=torch.float32)
    rows = min(chunk_rows(weight.shape[0], dtype), num_rows)
    logits = hidden.new_empty((rows, weight.shape[0]), dtype=dtype)
    # autocast would cast again what is cast here, once for all chunks
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        for first in range(0, num_rows, rows):
            chunk = slice(first, min(first + rows, num_rows))
            x = logits[: chunk.stop - first]
            torch.mm(hidden[chunk], weight.T, out=x)
            kernels.cross_entropy_(
                *(x, targets, scale, losses),
                first_row=first,
                with_gradient=needs_hidden or needs_weight,
            )
            if needs_hidden:
                _multiply(x, weight, out=dhidden[chunk], add=False)
            if needs_weight:
                _multiply(x.T, hidden[chunk], out=dweight, add=first > 0)
    return losses.sum() * scale, dhidden, dweight


@linear_cross_entropy.register_fake
def _(hidden, weight, targets, num_targets, dtype, needs_hidden, needs_weight):
    loss = hidden.new_empty((), dtype=torch.float32)
    return loss, *_gradients(hidden, weight, needs_hidden, needs_weight)


def _gradients(
    hidden: Tensor, weight: Tensor, needs_hidden: bool, needs_weight: bool
) -> tuple[Tensor, Tensor]:
    dhidden = torch.empty_like(hidden) if needs_hidden else hidden.new_empty(0)
    shape = weight.shape if needs_weight else (0,)
    return dhidden, weight.new_empty(shape, dtype=torch.float32)


def _multiply(left: Tensor, right: Tensor, *, out: Tensor, add: bool) -> None:
    """Write left @ right to ``out``, or add it there; a float32 ``out`` is never rounded."""
    if left.dtype == out.dtype:
        out.addmm_(left, right) if add else torch.mm(left, right, out=out)
    elif add:
        torch.addmm(out, left, right, out_dtype=out.dtype, out=out)
    else:
        torch.mm(left, right, out_dtype=out.dtype, out=out)


def _keep_linear_cross_entropy(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, weight, *_, ctx.needs_hidden, ctx.needs_weight = inputs
    _, dhidden, dweight = output
    ctx.mark_non_differentiable(dhidden, dweight)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dhidden, dweight)
    ctx.weight_dtype = weight.dtype


def _differentiate_linear_cross_entropy(ctx: Any, dloss: Tensor, *_: Any) -> tuple:
    dhidden, dweight = ctx.saved_tensors
    if ctx.needs_hidden:
        scale_gradient(dhidden, dloss)
    if ctx.needs_weight:
        scale_gradient(dweight, dloss)
    of_hidden = dhidden if ctx.needs_hidden else None
    of_weight = dweight.to(ctx.weight_dtype) if ctx.needs_weight else None
    return of_hidden, of_weight, *(None,) * 5


linear_cross_entropy.register_autograd(
    _differentiate_linear_cross_entropy, setup_context=_keep_linear_cross_entropy
)


@torch.library.custom_op("fseed::scale_gradient", mutates_args=("gradient",))
def scale_gradient(gradient: Tensor, factor: Tensor) -> None:
    """Multiply in place, at no cost where the factor on the device is 1.

    A gradient that was kept for the backward pass is spent by this: autograd refuses to go through
    the same graph a second time.
    """
    from fseed_kernels.neighbours import cross_entropy as kernels

    kernels.scale_(gradient, factor)


@torch.library.custom_op("fseed::embed_tokens", mutates_args=())
def embed_tokens(tokens: Tensor, weight: Tensor) -> Tensor:
    """Return weight[tokens], [*tokens, C]."""
    return F.embedding(tokens, weight)


@embed_tokens.register_fake
def _(tokens, weight):
    return weight.new_empty((*tokens.shape, weight.shape[1]))


@torch.library.custom_op("fseed::embed_tokens_backward", mutates_args=())
def embed_tokens_backward(tokens: Tensor, dout: Tensor, vocab_size: int) -> Tensor:
    """Return the gradient of the table, [V, C] float32."""
    from fseed_kernels.neighbours import embedding_gradient as kernels

    return kernels.backward(tokens.flatten(), dout.flatten(0, -2), num_ids=vocab_size)


@embed_tokens_backward.register_fake
def _(tokens, dout, vocab_size):
    return dout.new_empty((vocab_size, dout.shape[-1]), dtype=torch.float32)


def _keep_embed_tokens(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tokens, weight = inputs
    ctx.save_for_backward(tokens)
    ctx.vocab_size, ctx.weight_dtype = weight.shape[0], weight.dtype


def _differentiate_embed_tokens(ctx: Any, dout: Tensor) -> tuple:
    (tokens,) = ctx.saved_tensors
    dweight = embed_tokens_backward(tokens, dout.contiguous(), ctx.vocab_size)
    return None, dweight.to(ctx.weight_dtype)


embed_tokens.register_autograd(_differentiate_embed_tokens, setup_context=_keep_embed_tokens)
