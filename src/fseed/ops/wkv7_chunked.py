"""WKV7 in chunks of C tokens: batched matrix products, one small product per chunk in sequence.

Legend, one chunk of one head (rows = tokens, alpha = -kk, beta = kk * a, g = running sum of
log_decay inside the chunk, g' = g - log_decay, S [V, K] the state before the chunk):

    At = alpha e^g'   Rt = r e^g   Bh = beta e^-g   Kh = k e^-g   G = e^(last g)
    left = [At; Rt]   right = [Bh; Kh]                                        both [2C, K]
    M = left right^T, masked: rows of At see earlier tokens only, rows of Rt themselves too
    M = [[Aab, Aak], [Aqb, Aqk]]   X = (I - Aab)^-1
    U = X (At S^T + Aak V)         what every token writes under its beta
    Y = Rt S^T + Aqb U + Aqk V
    S_end = (S + [U; V]^T right) diag(G)

U is linear in S: U = W S^T + Uv with W = X At, Uv = X Aak V. Hence S_end = S P + N, with
P = (I + W^T Bh) diag(G) and N = [Uv; V]^T right diag(G), and only S P is sequential.
|log_decay| < 0.6066, so e^(+-g) stays inside float32 for C <= 128 without any centring.

Memory traffic is what a CPU waits for: every tensor below is written once, by the product that
computes it (``out=`` and in place), and nothing is copied but into the layout of chunks and back.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from fseed.ops.chunk_layout import Pads, find_pads, from_chunks, padded_tokens, to_chunks, zero_pads

MASKED_BLOCK = 16  # up to this size whole products under a mask are faster than small blocks


def wkv7_chunked(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    alpha: Float[Tensor, "B T H K"],
    beta: Float[Tensor, "B T H K"],
    initial_state: Float[Tensor, "B H V K"],
    *,
    lengths: Int[Tensor, " B"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Compute what ``wkv7_reference`` computes; differentiable once in every input.

    ``lengths`` counts the true tokens of right-padded rows: a pad leaves the state as it is, its
    output and every gradient of it are 0. ``chunk_size`` in tokens, a power of two; None: the
    fastest one for the head size.
    """
    if chunk_size is None:
        chunk_size = _fastest_chunk_size(r)
    chunk_size = min(chunk_size, 1 << (r.shape[1] - 1).bit_length())
    inputs = (r, log_decay, k, v, alpha, beta, initial_state)
    return _Chunked.apply(*inputs, lengths, chunk_size)


def _fastest_chunk_size(r: Tensor) -> int:
    """Weigh 16 C K + 8 K^2 operations per token against one sequential step per chunk."""
    if r.is_cuda:
        return 64  # launches, not operations, take the time
    return 16 if r.shape[-1] <= 32 else 32


class _Chunked(torch.autograd.Function):
    """Forward and hand-derived backward; inside, a tensor is [num_chunks * B * H, rows, D]."""

    @staticmethod
    def forward(ctx: Any, r, log_decay, k, v, alpha, beta, initial_state, lengths, size: int):
        left, right, written, decay = _read_inputs(r, log_decay, k, v, alpha, beta, size=size)
        pads = find_pads(lengths, num_tokens=r.shape[1], size=size)
        # all of them: what stands on a pad may be no number, and 0 times that is none either
        for rows in (*left.split(size, 1), *right.split(size, 1), written[:, size:], decay):
            zero_pads(rows, pads, num_heads=r.shape[2])
        # a triangular product instead of cumsum: deterministic on CUDA, and faster on a CPU
        grow = (_triangle(decay) @ decay).exp_()
        left[:, 1:size].mul_(grow[:, :-1])  # e^g' is e^g one row before, and 1 in the first row
        left[:, size:].mul_(grow)
        right.unflatten(1, (2, size)).mul_(grow.reciprocal().unsqueeze(1))
        products = (left @ right.mT).mul_(_causal_mask(left))
        inverse = _unit_lower_inverse(products[:, :size, :size])
        w = inverse @ left[:, :size]
        u = inverse @ (products[:, :size, size:] @ written[:, size:])
        written[:, :size] = u  # [Uv; V]
        step = w.mT @ right[:, :size]
        step.diagonal(dim1=1, dim2=2).add_(1)
        step.mul_(grow[:, -1:])
        states = _scan(initial_state, step, written=written, right=right, total=grow[:, -1:])
        starts = states[:-1].flatten(0, 2).mT
        written[:, :size] = u.baddbmm_(w, starts)  # [U; V]
        y = (left[:, size:] @ starts).baddbmm_(products[:, size:], written)
        ctx.save_for_backward(left, right, grow, products, inverse, written, states, step)
        ctx.pads = pads
        return from_chunks(y, like=v), states[-1].clone()

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, dfinal = gradients
        # the caller's autocast may be on, and would round the products to bf16
        with torch.autocast(device_type=dy.device.type, enabled=False):
            return *_gradients(dy, dfinal, *ctx.saved_tensors, pads=ctx.pads), None, None


def _gradients(
    dy: Tensor,
    dfinal: Tensor,
    left: Tensor,
    right: Tensor,
    grow: Tensor,
    products: Tensor,
    inverse: Tensor,
    written: Tensor,
    states: Tensor,
    step: Tensor,
    *,
    pads: Pads | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of r, log_decay, k, v, alpha, beta and the initial state."""
    size, starts = inverse.shape[-1], states[:-1].flatten(0, 2)
    doutput = torch.empty_like(written)  # [dZ; dY], the gradients of [At; Rt] S^T
    to_chunks(dy, doutput[:, size:])
    zero_pads(doutput[:, size:], pads, num_heads=dy.shape[2])
    # gradients of [U; V] through Y, then dZ = X^T dU, the gradient of what X is applied to
    dwritten = products[:, size:].mT @ doutput[:, size:]
    doutput[:, :size] = inverse.mT @ dwritten[:, :size]
    # S enters Y through Rt and through At, so dS = [dZ; dY]^T left + dS_end P^T
    ends, dinitial = _reverse_scan(dfinal, step, doutput=doutput, left=left)
    dlast = (states[1:].flatten(0, 2) * ends).sum(1, keepdim=True)  # G scales all of S_end
    dend = ends.mul_(grow[:, -1:])  # gradient of S + [U; V]^T right
    dwritten.baddbmm_(right, dend.mT)
    doutput[:, :size] = inverse.mT @ dwritten[:, :size]
    dv = products[:, :size, size:].mT @ doutput[:, :size]
    dv.add_(dwritten[:, size:])
    dproducts = (doutput @ written.mT).mul_(_causal_mask(left))
    dleft = (doutput @ starts).baddbmm_(dproducts, right)
    dright = (written @ dend).baddbmm_(dproducts.mT, left)
    ddecay = _decay_gradient(dleft, left, dright, right, dlast)
    dleft[:, 1:size].mul_(grow[:, :-1])
    dleft[:, size:].mul_(grow)
    dright.unflatten(1, (2, size)).mul_(grow.reciprocal().unsqueeze(1))
    dalpha, dr, dbeta, dk = *dleft.split(size, 1), *dright.split(size, 1)
    # all others are 0 there, with what they are products of; the decay alone scales the state
    zero_pads(ddecay, pads, num_heads=dy.shape[2])
    parts = (dr, ddecay, dk, dv, dalpha, dbeta)
    return *(from_chunks(x, like=dy) for x in parts), dinitial


def _read_inputs(
    r: Tensor, log_decay: Tensor, k: Tensor, v: Tensor, alpha: Tensor, beta: Tensor, *, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return [alpha; r], [beta; k], [unwritten; v], each [G, 2C, D], and log_decay [G, C, K]."""
    batch_size, num_tokens, num_heads, key_size = r.shape
    groups = padded_tokens(num_tokens, size) // size * batch_size * num_heads
    left, right = (r.new_empty(groups, 2 * size, key_size) for _ in range(2))
    written, decay = v.new_empty(groups, 2 * size, v.shape[-1]), r.new_empty(groups, size, key_size)
    for x, rows in ((alpha, left[:, :size]), (r, left[:, size:]), (beta, right[:, :size])):
        to_chunks(x, rows)
    for x, rows in ((k, right[:, size:]), (v, written[:, size:]), (log_decay, decay)):
        to_chunks(x, rows)
    return left, right, written, decay


def _triangle(like: Tensor) -> Tensor:
    """Lower triangle of ones [C, C] for ``like`` [.., C, D]."""
    return _ones_below(like.shape[-2], 0, like.dtype, like.device)


def _causal_mask(left: Tensor) -> Tensor:
    """[2C, 2C]: rows of At see strictly earlier tokens, rows of Rt the same token too."""
    return _ones_causal(left.shape[-2] // 2, left.dtype, left.device)


def _identity(like: Tensor) -> Tensor:
    """Return the identity [D, D] for ``like`` [.., D]."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


# constants may outlive an inference_mode block, in which they could not be saved for backward
@cache
@torch.inference_mode(False)
def _ones_below(size: int, diagonal: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=dtype, device=device).tril(diagonal)


@cache
@torch.inference_mode(False)
def _ones_causal(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    halves = [_ones_below(size, diagonal, dtype, device).repeat(1, 2) for diagonal in (-1, 0)]
    return torch.cat(halves, 0)


def _unit_lower_inverse(strict: Float[Tensor, "G C C"]) -> Float[Tensor, "G C C"]:
    """Return (I - A)^-1 for strictly lower A, C a power of two, by block doubling.

    The diagonal blocks of size s are inverted, then joined in pairs: X21 = X22 A21 X11. As exact
    as substitution; the power series I + A + A^2 .. loses digits on runs of equal keys.
    """
    size = strict.shape[-1]
    if size <= MASKED_BLOCK:
        return _masked_inverse(strict)
    half = size // 2
    corners = torch.stack((strict[:, :half, :half], strict[:, half:, half:]), 1)
    upper, lower = _unit_lower_inverse(corners.flatten(0, 1)).view_as(corners).unbind(1)
    inverse = torch.zeros_like(strict, memory_format=torch.contiguous_format)
    inverse[:, :half, :half], inverse[:, half:, half:] = upper, lower
    inverse[:, half:, :half] = lower @ strict[:, half:, :half] @ upper
    return inverse


def _masked_inverse(strict: Float[Tensor, "G C C"]) -> Float[Tensor, "G C C"]:
    """Join all pairs of a level at once, X += X A_between X: fewer, if larger, products."""
    size = strict.shape[-1]
    inverse = _identity(strict).expand_as(strict)
    for block, between in _pair_masks(size, strict.dtype, strict.device):
        joined = strict * between
        inverse = inverse + joined if block == 1 else inverse.baddbmm(inverse @ joined, inverse)
    return inverse


@cache
@torch.inference_mode(False)
def _pair_masks(size: int, dtype: torch.dtype, device: torch.device) -> list[tuple[int, Tensor]]:
    """Return block size s and the mask of what joins two neighbouring blocks, s = 1, 2, 4 .."""
    index, masks = torch.arange(size, device=device), []
    for block in (1 << level for level in range((size - 1).bit_length())):
        same_pair = (index[:, None] // (2 * block)) == (index // (2 * block))
        below = (index[:, None] // block) > (index // block)
        masks.append((block, (same_pair & below).to(dtype)))
    return masks


# baddbmm_ on a tensor that is not contiguous would go matrix by matrix, so none is below
def _scan(
    initial_state: Tensor, step: Tensor, *, written: Tensor, right: Tensor, total: Tensor
) -> Float[Tensor, "chunks+1 B H V K"]:
    """Return the states before every chunk and the last one: S_end = S P + [Uv; V]^T right G."""
    steps = step.unflatten(0, (-1, initial_state.shape[:2].numel()))
    states = initial_state.new_empty(len(steps) + 1, *initial_state.shape)
    states[0] = initial_state
    torch.bmm(written.mT, right, out=states[1:].flatten(0, 2)).mul_(total)
    by_chunk = states.flatten(1, 2).unbind(0)
    for start, end, matrix in zip(by_chunk[:-1], by_chunk[1:], steps.unbind(0), strict=True):
        end.baddbmm_(start, matrix)
    return states


def _reverse_scan(
    dfinal: Tensor, step: Tensor, *, doutput: Tensor, left: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient at the end of every chunk [G, V, K] and at the start [B, H, V, K]."""
    steps = step.unflatten(0, (-1, dfinal.shape[:2].numel()))
    gradients = dfinal.new_empty(len(steps) + 1, *dfinal.shape)
    gradients[-1] = dfinal
    torch.bmm(doutput.mT, left, out=gradients[:-1].flatten(0, 2))
    by_chunk = gradients.flatten(1, 2).unbind(0)[::-1]
    backwards = steps.mT.unbind(0)[::-1]
    for end, start, matrix in zip(by_chunk[:-1], by_chunk[1:], backwards, strict=True):
        start.baddbmm_(end, matrix)
    return gradients[1:].flatten(0, 2), gradients[0].clone()


def _decay_gradient(
    dleft: Tensor, left: Tensor, dright: Tensor, right: Tensor, dlast: Tensor
) -> Float[Tensor, "G C K"]:
    """Sum what every g scales over the rows from its own on; for At (g', not g) one row later."""
    size = left.shape[1] // 2
    scaled = dleft[:, size:] * left[:, size:]
    scaled[:, :-1].addcmul_(dleft[:, 1:size], left[:, 1:size])
    for half in (slice(None, size), slice(size, None)):
        scaled.addcmul_(dright[:, half], right[:, half], value=-1)
    return torch.baddbmm(dlast, _triangle(left[:, :size]).mT.expand(len(left), -1, -1), scaled)
