"""Cases for the chunk kernels and their formulas in float64, chunk by chunk.

The states and the gradients that the scans would bring are random.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fseed_kernels.problem import Inputs, num_chunks
from fseed_kernels.reference import LOG_DECAY_SCALE, build_problem
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.math import arithmetic


@dataclass(frozen=True)
class Case:
    """Inputs of the chunk kernels; NaN wherever they must not look."""

    inputs: Inputs
    dy: Tensor
    states: Tensor
    end: Tensor
    lengths: Tensor | None
    true_lengths: list[int]
    chunk_size: int
    precision: str


def build_case(
    *,
    t: int,
    d: int,
    lengths: list[int] | None = None,
    precision: str = "bf16",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Case:
    p = build_problem(b=2, t=t, h=2, d=d, lengths=lengths, dtype=dtype, device=device)
    true_lengths = lengths or [t, t]
    tensors = [x.clone() for x in (*p.inputs.tensors, p.dy)]
    for row, length in enumerate(true_lengths):
        for x in tensors:
            x[row, length:] = float("nan")
    arch = sizes.architecture(torch.device(device))
    chunk_size = sizes.chunk_size(precision, d, arch)
    generator = torch.Generator().manual_seed(1)
    shape = (4, num_chunks(t, chunk_size), d, d)
    states, end = (torch.randn(*shape, generator=generator) for _ in range(2))
    for bh in range(4):
        dead = num_chunks(true_lengths[bh // 2], chunk_size)
        states[bh, dead:] = end[bh, dead:] = float("nan")
    scratch = arithmetic(precision).scratch
    return Case(
        inputs=Inputs(*tensors[:6]),
        dy=tensors[6],
        states=states.to(device, scratch),
        end=end.to(device, scratch),
        lengths=p.lengths,
        true_lengths=true_lengths,
        chunk_size=chunk_size,
        precision=precision,
    )


def to_chunks(x: Tensor, case: Case) -> Tensor:
    """[B, T, H, D] to [BH, NC, C, D] float64, zeros on pads."""
    b, t, h, d = x.shape
    padded = x.new_zeros(b, num_chunks(t, case.chunk_size) * case.chunk_size, h, d).double()
    for row, length in enumerate(case.true_lengths):
        padded[row, :length] = x[row, :length].double()
    return padded.transpose(1, 2).reshape(b * h, -1, case.chunk_size, d)


def from_chunks(x: Tensor, like: Tensor) -> Tensor:
    """[BH, NC, C, D] to [B, T, H, D]."""
    b, t, h, d = like.shape
    return x.reshape(b, h, -1, d)[:, :, :t].transpose(1, 2)


def live(x: Tensor, case: Case) -> Tensor:
    """The chunks of [BH, NC, ..] that hold a token, one after the other."""
    heads = case.inputs.r.shape[2]
    counts = [num_chunks(length, case.chunk_size) for length in case.true_lengths]
    return torch.cat([x[bh, : counts[bh // heads]] for bh in range(len(x))])


class Formulas:
    """kernels/README.md in float64, chunk by chunk, without a state from outside."""

    def __init__(self, case: Case):
        self.case = case
        r, decay_logit, k, self.v, alpha, beta = (to_chunks(x, case) for x in case.inputs.tensors)
        self.s = torch.sigmoid(decay_logit)
        token = to_chunks(torch.ones_like(case.inputs.r), case)
        self.slope = LOG_DECAY_SCALE * self.s * (1 - self.s) * token
        log_decay = LOG_DECAY_SCALE * self.s * token
        g = log_decay.cumsum(2)
        self.grow, self.before, self.shrink = g.exp(), (g - log_decay).exp(), (-g).exp()
        self.G = g[:, :, -1].exp()
        self.Rt, self.At = r * self.grow, alpha * self.before
        self.Bh, self.Kh = beta * self.shrink, k * self.shrink
        self.Aab, self.Aak = (self.At @ x.mT for x in (self.Bh, self.Kh))
        self.Aab, self.Aak = self.Aab.tril(-1), self.Aak.tril(-1)
        self.Aqb, self.Aqk = (self.Rt @ self.Bh.mT).tril(), (self.Rt @ self.Kh.mT).tril()
        one = torch.eye(case.chunk_size, dtype=torch.float64, device=g.device)
        self.X = torch.linalg.inv(one - self.Aab).contiguous()

    def forward(self) -> dict[str, Tensor]:
        W, Uv = self.X @ self.At, self.X @ self.Aak @ self.v
        G = self.G.unsqueeze(-2)
        return {
            "step": W.mT @ (self.Bh * G),
            "added": self.v.mT @ (self.Kh * G) + Uv.mT @ (self.Bh * G),
            "query": self.Rt + self.Aqb @ W,
            "y": from_chunks(self.Aqk @ self.v + self.Aqb @ Uv, self.case.inputs.v),
            "total": self.G,
            "inverse": self.X,
        }

    def values(self) -> dict[str, Tensor]:
        S, E = self.case.states.double().nan_to_num(), self.case.end.double().nan_to_num()
        dY = to_chunks(self.case.dy, self.case)
        U = self.X @ (self.At @ S.mT + self.Aak @ self.v)
        dZ = self.X.mT @ (self.Aqb.mT @ dY + self.Bh @ E.mT)
        dV = self.Aqk.mT @ dY + self.Kh @ E.mT + self.Aak.mT @ dZ
        return {"written": U, "dz": dZ, "dv": from_chunks(dV, self.case.inputs.v)}

    def keys(self, U: Tensor, dZ: Tensor) -> dict[str, Tensor]:
        S, E = self.case.states.double().nan_to_num(), self.case.end.double().nan_to_num()
        dY, v = to_chunks(self.case.dy, self.case), self.v
        dAab, dAak = (dZ @ U.mT).tril(-1), (dZ @ v.mT).tril(-1)
        dAqb, dAqk = (dY @ U.mT).tril(), (dY @ v.mT).tril()
        dRt = dY @ S + dAqb @ self.Bh + dAqk @ self.Kh
        dAt = dZ @ S + dAab @ self.Bh + dAak @ self.Kh
        dBh = dAab.mT @ self.At + dAqb.mT @ self.Rt + U @ E
        dKh = dAak.mT @ self.At + dAqk.mT @ self.Rt + v @ E
        dg, before = dRt * self.Rt - dBh * self.Bh - dKh * self.Kh, dAt * self.At
        last = (S * E).sum(2) + (U @ E * self.Bh + v @ E * self.Kh).sum(2)
        suffix = (dg + before).flip(2).cumsum(2).flip(2) - before
        gradients = {
            "dr": dRt * self.grow,
            "ddecay_logit": (suffix + last.unsqueeze(2)) * self.slope,
            "dk": dKh * self.shrink,
            "dalpha": dAt * self.before,
            "dbeta": dBh * self.shrink,
        }
        return {name: from_chunks(x, self.case.dy) for name, x in gradients.items()}
