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
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad


def wkv7_chunked(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    alpha: Float[Tensor, "B T H K"],
    beta: Float[Tensor, "B T H K"],
    initial_state: Float[Tensor, "B H V K"],
    *,
    chunk_size: int | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Compute what ``wkv7_reference`` computes; differentiable once in every input.

    ``chunk_size`` in tokens, a power of two; None: the fastest one for the head size.
    """
    if chunk_size is None:
        chunk_size = _fastest_chunk_size(r)
    chunk_size = min(chunk_size, 1 << (r.shape[1] - 1).bit_length())
    return _Chunked.apply(r, log_decay, k, v, alpha, beta, initial_state, chunk_size)


def _fastest_chunk_size(r: Tensor) -> int:
    """Weigh 16 C K + 8 K^2 operations per token against one sequential step per chunk."""
    if r.is_cuda:
        return 64  # launches, not operations, take the time
    return 16 if r.shape[-1] <= 16 else 32


class _Chunked(torch.autograd.Function):
    """Forward and hand-derived backward; inside, chunks are [B, H, num_chunks, rows, D]."""

    @staticmethod
    def forward(ctx: Any, r, log_decay, k, v, alpha, beta, initial_state, chunk_size: int):
        num_tokens = r.shape[1]
        log_decay, v = (_to_chunks(x, chunk_size) for x in (log_decay, v))
        left = _stacked(alpha, r, chunk_size)
        right = _stacked(beta, k, chunk_size)
        # a triangular product instead of cumsum: deterministic on CUDA, and faster on a CPU
        g = _triangle(log_decay, chunk_size, 0) @ log_decay
        grow = torch.cat((g - log_decay, g), -2).exp()
        shrink = (-g).exp()
        total = grow[..., -1:, :]
        left, right = left * grow, _scale_halves(right, shrink)
        products = (left @ right.transpose(-1, -2)).mul_(_causal_mask(left, chunk_size))
        aab, aak = products[..., :chunk_size, :chunk_size], products[..., :chunk_size, chunk_size:]
        inverse = _unit_lower_inverse(aab)
        w = inverse @ left[..., :chunk_size, :]
        uv = inverse @ (aak @ v)
        step, added = _transition(w, torch.cat((uv, v), -2), right, total)
        states = _scan(initial_state, step, added)
        starts = states[:, :, :-1].transpose(-1, -2)
        written = torch.cat((uv.add_(w @ starts), v), -2)  # [U; V]
        y = left[..., chunk_size:, :] @ starts + products[..., chunk_size:, :] @ written
        ctx.save_for_backward(left, right, grow, shrink, products, inverse, written, states, step)
        return _from_chunks(y, num_tokens), states[:, :, -1].clone()

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, dfinal = gradients
        left, right, grow, shrink, products, inverse, written, states, step = ctx.saved_tensors
        num_tokens, chunk_size = dy.shape[1], inverse.shape[-1]
        dy = _to_chunks(dy, chunk_size)
        inverse_t = inverse.transpose(-1, -2)
        # gradients of [U; V] through Y, then dZ = X^T dU, the gradient of what X is applied to
        dwritten = products[..., chunk_size:, :].transpose(-1, -2) @ dy
        dz = inverse_t @ dwritten[..., :chunk_size, :]
        # S enters Y through Rt and through At, so dS = [dZ; dY]^T left + dS_end P^T
        local = torch.cat((dz, dy), -2).transpose(-1, -2) @ left
        dend, dinitial = _reverse_scan(dfinal, step, local)
        dend = dend * grow[..., -1:, :]  # gradient of S + [U; V]^T right
        through_end = right @ dend.transpose(-1, -2)
        dz = dz + inverse_t @ through_end[..., :chunk_size, :]
        aak = products[..., :chunk_size, chunk_size:]
        dv = (dwritten + through_end)[..., chunk_size:, :] + aak.transpose(-1, -2) @ dz
        doutput = torch.cat((dz, dy), -2)
        dproducts = (doutput @ written.transpose(-1, -2)).mul_(_causal_mask(left, chunk_size))
        dleft = doutput @ states[:, :, :-1] + dproducts @ right
        written_dend = written @ dend
        dright = dproducts.transpose(-1, -2) @ left + written_dend
        # the last g also scales S_end: G = e^(last g)
        dlast = (states[:, :, :-1] * dend).sum(-2, keepdim=True)
        dlast = dlast + (written_dend * right).sum(-2, keepdim=True)
        dlog_decay = _decay_gradient(dleft * left, dright * right, chunk_size) + dlast
        dalpha, dr = dleft.mul_(grow).split(chunk_size, -2)
        dbeta, dk = _scale_halves(dright, shrink).split(chunk_size, -2)
        dr, dlog_decay, dk, dv, dalpha, dbeta = (
            _from_chunks(x, num_tokens) for x in (dr, dlog_decay, dk, dv, dalpha, dbeta)
        )
        return dr, dlog_decay, dk, dv, dalpha, dbeta, dinitial, None


def _to_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """[B, T, H, D] -> [B, H, num_chunks, C, D]; zeros at the end are identities on the state."""
    x = pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk_size))
    return x.unflatten(1, (-1, chunk_size)).permute(0, 3, 1, 2, 4)


def _from_chunks(x: Tensor, num_tokens: int) -> Tensor:
    """[B, H, num_chunks, C, D] -> [B, T, H, D]."""
    return x.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :num_tokens]


def _stacked(upper: Tensor, lower: Tensor, chunk_size: int) -> Tensor:
    """Two [B, T, H, K] -> [B, H, num_chunks, 2C, K], upper rows first."""
    return torch.cat((_to_chunks(upper, chunk_size), _to_chunks(lower, chunk_size)), -2)


def _scale_halves(rows: Tensor, scale: Tensor) -> Tensor:
    """Scale the upper and the lower C rows of [.., 2C, K] by the same [.., C, K]."""
    return (rows.unflatten(-2, (2, -1)) * scale.unsqueeze(-3)).flatten(-3, -2)


def _triangle(like: Tensor, chunk_size: int, diagonal: int) -> Tensor:
    """Lower triangle of ones [C, C] in the dtype and on the device of ``like``."""
    return _ones_below(chunk_size, diagonal, like.dtype, like.device)


def _causal_mask(like: Tensor, chunk_size: int) -> Tensor:
    """[2C, 2C]: rows of At see strictly earlier tokens, rows of Rt the same token too."""
    return _ones_causal(chunk_size, like.dtype, like.device)


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


def _unit_lower_inverse(strict: Tensor) -> Tensor:
    """Return (I - A)^-1 for strictly lower A [.., C, C], C a power of two, by block doubling.

    The diagonal blocks of size s are inverted, then joined in pairs: X += X A_between X. As exact
    as substitution; the power series I + A + A^2 .. loses digits on runs of equal keys.
    """
    size = strict.shape[-1]
    inverse = torch.eye(size, dtype=strict.dtype, device=strict.device).expand_as(strict)
    for block, between in _pair_masks(size, strict.dtype, strict.device):
        joined = strict * between
        inverse = inverse + (joined if block == 1 else inverse @ joined @ inverse)
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


def _transition(w: Tensor, constant: Tensor, right: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return P [.., K, K] and N [.., V, K] with S_end = S P + N."""
    identity = torch.eye(right.shape[-1], dtype=right.dtype, device=right.device)
    beta = right[..., : w.shape[-2], :]
    step = (w.transpose(-1, -2) @ beta).add_(identity).mul_(total)
    return step, (constant.transpose(-1, -2) @ right).mul_(total)


def _scan(initial_state: Tensor, step: Tensor, added: Tensor) -> Tensor:
    """Return the states before every chunk and the last one, [B, H, num_chunks + 1, V, K]."""
    states = [initial_state]
    for c in range(step.shape[2]):
        states.append(added[:, :, c] + states[-1] @ step[:, :, c])
    return torch.stack(states, 2)


def _reverse_scan(dfinal: Tensor, step: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient at the end of every chunk [B, H, num_chunks, V, K] and at the start."""
    gradient, ends = dfinal, []
    for c in range(step.shape[2] - 1, -1, -1):
        ends.append(gradient)
        gradient = local[:, :, c] + gradient @ step[:, :, c].transpose(-1, -2)
    return torch.stack(ends[::-1], 2), gradient


def _decay_gradient(dleft_left: Tensor, dright_right: Tensor, chunk_size: int) -> Tensor:
    """Sum what every g scales: suffix sums over the chunk, one row later for At (g', not g)."""
    at_part, rt_part = dleft_left.split(chunk_size, -2)
    beta_part, key_part = dright_right.split(chunk_size, -2)
    inclusive = rt_part - beta_part - key_part
    rows = torch.cat((at_part, inclusive), -2)
    sums = torch.cat([_triangle(rows, chunk_size, diagonal) for diagonal in (-1, 0)], 0)
    return sums.transpose(0, 1) @ rows
