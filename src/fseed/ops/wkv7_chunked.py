"""WKV7 in chunks of C tokens: batched matrix products, one small product per chunk in sequence.

Legend, one chunk of one head (rows = tokens, alpha = -kk, beta = kk * a, g = running sum of
log_decay inside the chunk, g' = g - log_decay):

    Rt = r e^g   At = alpha e^g'   Bh = beta e^-g   Kh = k e^-g   G = e^(last g)
    Aab = tril(At Bh^T, -1)   Aak = tril(At Kh^T, -1)   Aqb = tril(Rt Bh^T)   Aqk = tril(Rt Kh^T)
    U = (I - Aab)^-1 (At S^T + Aak V)                  S [V, K] is the state before the chunk
    Y = Rt S^T + Aqb U + Aqk V
    S_end = (S + U^T Bh + V^T Kh) diag(G)

U is linear in S: U = W S^T + Uv with (I - Aab) [W | Uv] = [At | Aak V]. Hence S_end = S P + N with
P = (I + W^T Bh) diag(G), and only that product is sequential. |log_decay| < 0.6066, so e^(+-g)
stays inside float32 for C <= 128 without any centring.
"""

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK_SIZE = 32  # tokens; fastest on 2 CPU cores at K = V = 64 (make bench-cpu)


def wkv7_chunked(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    kk: Float[Tensor, "B T H K"],
    a: Float[Tensor, "B T H K"],
    initial_state: Float[Tensor, "B H V K"],
    *,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Compute what ``wkv7_reference`` computes; differentiable once in every input."""
    num_tokens = r.shape[1]
    chunk_size = min(chunk_size, num_tokens)
    chunks = [_to_chunks(x, chunk_size) for x in (r, log_decay, k, v, -kk, kk * a)]
    y, final_state = _Chunked.apply(*chunks, initial_state.flatten(0, 1))
    y = y.reshape(r.shape[0], r.shape[2], -1, v.shape[-1])[:, :, :num_tokens]
    return y.transpose(1, 2), final_state.view_as(initial_state)


def _to_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """[B, T, H, D] -> [B*H, num_chunks, C, D]; zeros at the end are identities on the state."""
    missing = -x.shape[1] % chunk_size
    x = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing)).transpose(1, 2)
    return x.reshape(x.shape[0] * x.shape[1], -1, chunk_size, x.shape[-1])


def _triangle(like: Tensor, chunk_size: int, diagonal: int) -> Tensor:
    """Lower triangle of ones [C, C] in the dtype and on the device of ``like``."""
    return torch.ones(chunk_size, chunk_size, dtype=like.dtype, device=like.device).tril(diagonal)


def _scaled(r: Tensor, log_decay: Tensor, k: Tensor, alpha: Tensor, beta: Tensor):
    """Return Rt, At, Bh, Kh, G and the three exponentials that scale them."""
    # a triangular product instead of cumsum: deterministic on CUDA, and faster on a CPU
    g = _triangle(log_decay, log_decay.shape[-2], 0) @ log_decay
    grow, grow_before, shrink = g.exp(), (g - log_decay).exp(), (-g).exp()
    total = grow[..., -1:, :]
    return r * grow, alpha * grow_before, beta * shrink, k * shrink, total, grow, grow_before, shrink


def _attention(rt: Tensor, at: Tensor, bh: Tensor, kh: Tensor):
    """Return the masked chunk matrices Aab, Aak, Aqb, Aqk, each [.., C, C]."""
    strict, full = _triangle(rt, rt.shape[-2], -1), _triangle(rt, rt.shape[-2], 0)
    bt, kt = bh.transpose(-1, -2), kh.transpose(-1, -2)
    return (at @ bt) * strict, (at @ kt) * strict, (rt @ bt) * full, (rt @ kt) * full


def _solve(aab: Tensor, right: Tensor, *, transpose: bool = False) -> Tensor:
    """Solve (I - Aab) x = right, or its transpose."""
    matrix = -aab.transpose(-1, -2) if transpose else -aab
    return torch.linalg.solve_triangular(matrix, right, upper=transpose, unitriangular=True)


class _Chunked(torch.autograd.Function):
    """Forward and hand-derived backward on [BH, num_chunks, C, D] chunks and [BH, V, K] states."""

    @staticmethod
    def forward(ctx, r, log_decay, k, v, alpha, beta, initial_state):
        rt, at, bh, kh, total, *_ = _scaled(r, log_decay, k, alpha, beta)
        aab, aak, aqb, aqk = _attention(rt, at, bh, kh)
        w, uv = _solve(aab, torch.cat((at, aak @ v), -1)).split((at.shape[-1], v.shape[-1]), -1)
        step, added = _transition(w, uv, v, bh, kh, total)
        states = _scan(initial_state, step, added)  # [BH, num_chunks + 1, V, K]
        starts = states[:, :-1].transpose(-1, -2)
        y = (rt + aqb @ w) @ starts + aqb @ uv + aqk @ v
        ctx.save_for_backward(r, log_decay, k, v, alpha, beta, states, step)
        return y, states[:, -1].clone()

    @staticmethod
    def backward(ctx, *gradients):
        dy, dfinal = gradients
        r, log_decay, k, v, alpha, beta, states, step = ctx.saved_tensors
        rt, at, bh, kh, total, grow, grow_before, shrink = _scaled(r, log_decay, k, alpha, beta)
        aab, aak, aqb, aqk = _attention(rt, at, bh, kh)
        start = states[:, :-1]
        start_t = start.transpose(-1, -2)
        u = _solve(aab, at @ start_t + aak @ v)
        # Y = (Rt + Aqb W) S^T + ..., so dS gains dY^T Q with Q = Rt + Aqb W; W^T x = At^T X^T x
        aqb_dy = aqb.transpose(-1, -2) @ dy
        z_dy = _solve(aab, aqb_dy, transpose=True)
        dstart_local = dy.transpose(-1, -2) @ rt + z_dy.transpose(-1, -2) @ at
        dend, dinitial = _reverse_scan(dfinal, step, dstart_local)
        dend_scaled = dend * total  # gradient of S + U^T Bh + V^T Kh
        # dU = Aqb^T dY + Bh (dE G)^T, dZ = (I - Aab)^-T dU
        dz = z_dy + _solve(aab, bh @ dend_scaled.transpose(-1, -2), transpose=True)
        dv = (
            aqk.transpose(-1, -2) @ dy
            + kh @ dend_scaled.transpose(-1, -2)
            + aak.transpose(-1, -2) @ dz
        )
        strict, full = _triangle(rt, rt.shape[-2], -1), _triangle(rt, rt.shape[-2], 0)
        ut, vt = u.transpose(-1, -2), v.transpose(-1, -2)
        daab, daak = (dz @ ut) * strict, (dz @ vt) * strict
        daqb, daqk = (dy @ ut) * full, (dy @ vt) * full
        drt = dy @ start + daqb @ bh + daqk @ kh
        dat = dz @ start + daab @ bh + daak @ kh
        u_dend, v_dend = u @ dend_scaled, v @ dend_scaled
        dbh = daab.transpose(-1, -2) @ at + daqb.transpose(-1, -2) @ rt + u_dend
        dkh = daak.transpose(-1, -2) @ at + daqk.transpose(-1, -2) @ rt + v_dend
        # every entry scaled by e^g adds its product to dg; g' = g - log_decay shifts At by one row
        before, at_term = drt * rt - dbh * bh - dkh * kh, dat * at
        # the last g also scales S_end: G = e^(last g)
        last = (start * dend_scaled).sum(-2, keepdim=True)
        last = last + (u_dend * bh + v_dend * kh).sum(-2, keepdim=True)
        dlog_decay = full.transpose(0, 1) @ before + strict.transpose(0, 1) @ at_term + last
        return drt * grow, dlog_decay, dkh * shrink, dv, dat * grow_before, dbh * shrink, dinitial


def _transition(w: Tensor, uv: Tensor, v: Tensor, bh: Tensor, kh: Tensor, total: Tensor):
    """Return P [.., K, K] and N [.., V, K] with S_end = S P + N."""
    key_size = bh.shape[-1]
    identity = torch.eye(key_size, dtype=bh.dtype, device=bh.device)
    step = (identity + w.transpose(-1, -2) @ bh) * total
    added = (uv.transpose(-1, -2) @ bh + v.transpose(-1, -2) @ kh) * total
    return step, added


def _scan(initial_state: Tensor, step: Tensor, added: Tensor) -> Tensor:
    """Return the states before every chunk and the last one: [BH, num_chunks + 1, V, K]."""
    states = [initial_state]
    for c in range(step.shape[1]):
        states.append(torch.baddbmm(added[:, c], states[-1], step[:, c]))
    return torch.stack(states, 1)


def _reverse_scan(dfinal: Tensor, step: Tensor, dstart_local: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient at the end of every chunk [BH, num_chunks, V, K] and at the start."""
    gradient, ends = dfinal, []
    for c in range(step.shape[1] - 1, -1, -1):
        ends.append(gradient)
        gradient = torch.baddbmm(dstart_local[:, c], gradient, step[:, c].transpose(-1, -2))
    return torch.stack(ends[::-1], 1), gradient
