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

U is linear in S: U = W S^T + Uv with W = X At, Uv = X Aak V. Only W S^T and U^T Bh diag(G), two
products of C x K x V, are computed chunk after chunk; all else is for all chunks at once.
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
    decay_scale: float = 1.0,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Compute what ``wkv7_reference`` computes; differentiable once in every input.

    ``log_decay`` is given divided by ``decay_scale``. ``lengths`` counts the true tokens of
    right-padded rows: a pad leaves the state as it is, its output and every gradient of it are 0.
    ``chunk_size`` in tokens, a power of two; None: the fastest one for the head size.
    """
    if chunk_size is None:
        chunk_size = _fastest_chunk_size(r)
    chunk_size = min(chunk_size, 1 << (r.shape[1] - 1).bit_length())
    inputs = (r, log_decay, k, v, alpha, beta, initial_state)
    return _Chunked.apply(*inputs, lengths, chunk_size, decay_scale)


def _fastest_chunk_size(r: Tensor) -> int:
    """Weigh 12 C K + 6 K^2 operations per token against one sequential step per chunk."""
    if r.is_cuda:
        return 64  # launches, not operations, take the time
    return 16 if r.shape[-1] <= 32 else 32


class _Chunked(torch.autograd.Function):
    """Forward and hand-derived backward; inside, a tensor is [num_chunks * B * H, rows, D]."""

    @staticmethod
    def forward(ctx: Any, r, log_decay, k, v, alpha, beta, initial_state, *options: Any):
        lengths, size, ctx.scale = options
        left, right, written, decay = _read_inputs(r, log_decay, k, v, alpha, beta, size=size)
        pads = find_pads(lengths, num_tokens=r.shape[1], size=size)
        # all of them: what stands on a pad may be no number, and 0 times that is none either
        for rows in (*left.split(size, 1), *right.split(size, 1), written[:, size:], decay):
            zero_pads(rows, pads, num_heads=r.shape[2])
        # a triangular product instead of cumsum: deterministic on CUDA, and faster on a CPU
        grow = ((ctx.scale * _triangle(decay)) @ decay).exp_()
        left[:, 1:size].mul_(grow[:, :-1])  # e^g' is e^g one row before, and 1 in the first row
        left[:, size:].mul_(grow)
        right.unflatten(1, (2, size)).mul_(grow.reciprocal().unsqueeze(1))
        products = (left @ right.mT).mul_(_causal_mask(left))
        inverse = _unit_lower_inverse(products[:, :size, :size])
        w = inverse @ left[:, :size]
        u = inverse @ (products[:, :size, size:] @ written[:, size:])
        states = _scan(initial_state, u, w=w, written=written, right=right, total=grow[:, -1:])
        written[:, :size] = u
        starts = states[:-1].flatten(0, 2).mT
        y = (left[:, size:] @ starts).baddbmm_(products[:, size:], written)
        ctx.save_for_backward(left, right, grow, products, inverse, written, states, w)
        ctx.pads = pads
        return from_chunks(y, like=v), states[-1].clone()

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, dfinal = gradients
        # the caller's autocast may be on, and would round the products to bf16
        with torch.autocast(device_type=dy.device.type, enabled=False):
            found = _gradients(dy, dfinal, *ctx.saved_tensors, pads=ctx.pads, scale=ctx.scale)
            return *found, None, None, None


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
    w: Tensor,
    *,
    pads: Pads | None,
    scale: float,
) -> tuple[Tensor, ...]:
    """Return the gradients of r, log_decay, k, v, alpha, beta and the initial state."""
    size, starts = inverse.shape[-1], states[:-1].flatten(0, 2)
    doutput = torch.empty_like(written)  # [dZ; dY], the gradients of [At; Rt] S^T
    to_chunks(dy, doutput[:, size:])
    zero_pads(doutput[:, size:], pads, num_heads=dy.shape[2])
    # gradients of U and V through Y; that of U is whole behind the scan
    from_output = products[:, size:].mT
    du = from_output[:, :size] @ doutput[:, size:]
    dv = from_output[:, size:] @ doutput[:, size:]
    ends, dinitial = _reverse_scan(
        dfinal, du, w=w, doutput=doutput, left=left, right=right, total=grow[:, -1:]
    )
    dlast = (states[1:].flatten(0, 2) * ends).sum(1, keepdim=True)  # G scales all of S_end
    dend = ends.mul_(grow[:, -1:])  # gradient of S + [U; V]^T right
    doutput[:, :size] = inverse.mT @ du  # dZ = X^T dU, the gradient of what X is applied to
    dv.baddbmm_(right[:, size:], dend.mT)
    dv.baddbmm_(products[:, :size, size:].mT, doutput[:, :size])
    dproducts = (doutput @ written.mT).mul_(_causal_mask(left))
    dleft = (doutput @ starts).baddbmm_(dproducts, right)
    dright = (written @ dend).baddbmm_(dproducts.mT, left)
    ddecay = _decay_gradient(dleft, left, dright, right, dlast, scale=scale)
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


# constants may outlive an inference_mode block, in which they could not be saved for backward
@cache
@torch.inference_mode(False)
def _ones_below(size: int, diagonal: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=dtype, device=device).tril(diagonal)


@cache
@torch.inference_mode(False)
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(size, dtype=dtype, device=device)


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
    like = (strict.shape[-1], strict.dtype, strict.device)
    inverse = _identity(*like).expand_as(strict)
    for block, between in _pair_masks(*like):
        if block == 1:
            inverse = torch.addcmul(inverse, strict, between)
        else:
            inverse = inverse.baddbmm(inverse @ (strict * between), inverse)
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
    initial_state: Tensor, u: Tensor, *, w: Tensor, written: Tensor, right: Tensor, total: Tensor
) -> Float[Tensor, "chunks+1 B H V K"]:
    """Return the states before every chunk and the last one; turn Uv into U, in place.

    U = Uv + W S^T, S_end = S G + [U; V]^T right G: what is written decays until the chunk ends.
    """
    size, num_states = u.shape[1], initial_state.shape[:2].numel()
    ends = right * total
    states = initial_state.new_empty(len(u) // num_states + 1, *initial_state.shape)
    states[0] = initial_state
    torch.bmm(written[:, size:].mT, ends[:, size:], out=states[1:].flatten(0, 2))
    by_chunk = states.flatten(1, 2).unbind(0)
    parts = (x.unflatten(0, (-1, num_states)).unbind(0) for x in (u, w, ends[:, :size], total))
    for start, end, *chunk in zip(by_chunk[:-1], by_chunk[1:], *parts, strict=True):
        own_u, own_w, own_ends, own_total = chunk
        own_u.baddbmm_(own_w, start.mT)
        end.baddbmm_(own_u.mT, own_ends).addcmul_(start, own_total)
    return states


def _reverse_scan(
    dfinal: Tensor,
    du: Tensor,
    *,
    w: Tensor,
    doutput: Tensor,
    left: Tensor,
    right: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the gradient at the end of every chunk [G, V, K] and at the start [B, H, V, K].

    dU gets in place what comes through the states, Bh G dS_end^T; dS = dS_end G + dY^T Rt + dU^T W.
    """
    size, num_states = du.shape[1], dfinal.shape[:2].numel()
    ends = right[:, :size] * total
    gradients = dfinal.new_empty(len(du) // num_states + 1, *dfinal.shape)
    gradients[-1] = dfinal
    torch.bmm(doutput[:, size:].mT, left[:, size:], out=gradients[:-1].flatten(0, 2))
    by_chunk = gradients.flatten(1, 2).unbind(0)[::-1]
    parts = (x.unflatten(0, (-1, num_states)).unbind(0)[::-1] for x in (du, w, ends, total))
    for end, start, *chunk in zip(by_chunk[:-1], by_chunk[1:], *parts, strict=True):
        own_du, own_w, own_ends, own_total = chunk
        own_du.baddbmm_(own_ends, end.mT)
        start.baddbmm_(own_du.mT, own_w).addcmul_(end, own_total)
    return gradients[1:].flatten(0, 2), gradients[0].clone()


def _decay_gradient(
    dleft: Tensor, left: Tensor, dright: Tensor, right: Tensor, dlast: Tensor, *, scale: float
) -> Float[Tensor, "G C K"]:
    """Sum what every g scales over the rows from its own on; for At (g', not g) one row later."""
    size = left.shape[1] // 2
    scaled = dleft[:, size:] * left[:, size:]
    scaled[:, :-1].addcmul_(dleft[:, 1:size], left[:, 1:size])
    for half in (slice(None, size), slice(size, None)):
        scaled.addcmul_(dright[:, half], right[:, half], value=-1)
    from_own_on = _triangle(scaled).mT.expand(len(left), -1, -1)
    return torch.baddbmm(dlast, from_own_on, scaled, beta=scale, alpha=scale)
