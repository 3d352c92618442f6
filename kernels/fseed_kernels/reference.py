"""Inputs that stress the recurrence, and its float64 reference with every gradient.

Reference results are a dict of tensors: y, final_state, and the gradients r, decay_logit, k, v,
alpha, beta, initial_state, gate, carried_state under random (non-symmetric) output gradients.
"""

from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor

from fseed_kernels.problem import MEAN_SQUARE_FLOOR, Carried, Inputs

LOG_DECAY_SCALE = -0.6065306597126334
RUN_TOKENS = {"equal_keys": 32, "one_key": None}  # tokens with the same key; None: all


@dataclass(frozen=True)
class Problem:
    """One call of the operator and the gradients of its outputs."""

    inputs: Inputs
    initial_state: Tensor | None
    carried: Carried | None
    lengths: Tensor | None
    dy: Tensor
    dfinal_state: Tensor | None  # None: zeros


def build_problem(
    *,
    b: int = 2,
    t: int = 65,
    h: int = 2,
    d: int = 64,
    kind: str = "typical",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    lengths: list[int] | None = None,
    with_carried: bool = False,
    clip: float = 0.4,
    norm: bool = True,
    seed: int = 0,
) -> Problem:
    """Draw a problem; ``kind`` is typical, fast_decay, equal_keys or one_key.

    equal_keys has runs of 32 tokens with one key each, one_key a single key in the whole text.
    ``clip`` is small enough that it binds on some entries of the carried state.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    size = (b, t, h, d)
    r, k, v = normal(*size), normal(*size) * 0.5, normal(*size)
    kk = torch.nn.functional.normalize(normal(*size), dim=-1)
    a = torch.sigmoid(2 * normal(*size))
    decay_logit = 3 * normal(*size) - 1
    if kind == "fast_decay":
        decay_logit = 8 + normal(*size)
    if kind in RUN_TOKENS:  # the same key again and again, hardly forgotten
        run = RUN_TOKENS[kind] or t
        k = (0.5 * normal(b, ceil(t / run), h, d)).repeat_interleave(run, 1)[:, :t]
        kk = torch.nn.functional.normalize(k, dim=-1)
        a = torch.full(size, 0.95)
        decay_logit = -6 + 0.1 * normal(*size)
    tensors = [x.to(device, dtype).contiguous() for x in (r, decay_logit, k, v, -kk, kk * a)]
    state = (b, h, d, d)
    carried = None
    if with_carried:
        previous = (2 * normal(*state)).to(device)
        squares = previous.square().unflatten(2, (d // 16, 16)).sum((3, 4)) if norm else None
        gate = (0.1 + 0.4 * torch.rand(b, h, generator=generator)).to(device)
        carried = Carried(state=previous, squares=squares, gate=gate, clip=clip)
    return Problem(
        inputs=Inputs(*tensors),
        initial_state=normal(*state).to(device),
        carried=carried,
        lengths=None if lengths is None else torch.tensor(lengths, dtype=torch.int32).to(device),
        dy=normal(*size).to(device, dtype),
        dfinal_state=normal(*state).to(device),
    )


def carried_reference(carried: Carried) -> Tensor:
    """Return clip(gate * state / rms) in plain PyTorch, rms from the state itself."""
    state = carried.state
    if carried.squares is not None:
        mean_square = state.square().mean((2, 3), keepdim=True)
        state = state / mean_square.clamp_min(MEAN_SQUARE_FLOOR).sqrt()
    state = carried.gate[:, :, None, None] * state
    return state.clamp(-carried.clip, carried.clip) if carried.clip > 0 else state


def recurrence(inputs: Inputs, state: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the recurrence token by token; pads leave the state as it is and give y = 0."""
    r, decay_logit, k, v, alpha, beta = inputs.tensors
    decay = torch.exp(LOG_DECAY_SCALE * torch.sigmoid(decay_logit))
    outputs = []
    for t in range(r.shape[1]):
        read = state @ alpha[:, t].unsqueeze(-1)
        new = state * decay[:, t].unsqueeze(-2) + read * beta[:, t].unsqueeze(-2)
        new = new + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        y = (new @ r[:, t].unsqueeze(-1)).squeeze(-1)
        if lengths is not None:
            true = (t < lengths)[:, None, None]
            new = torch.where(true[..., None], new, state)
            y = torch.where(true, y, torch.zeros_like(y))
        state = new
        outputs.append(y)
    return torch.stack(outputs, 1), state


def reference(problem: Problem) -> dict[str, Tensor]:
    """Return outputs and all gradients in float64 (on the device of the problem)."""
    leaves = {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in zip(
            ("r", "decay_logit", "k", "v", "alpha", "beta"), problem.inputs.tensors, strict=True
        )
    }
    inputs = Inputs(**leaves)
    b, _, h, d = problem.inputs.sizes
    state = problem.dy.new_zeros((b, h, d, d), dtype=torch.float64)
    if problem.initial_state is not None:
        leaves["initial_state"] = problem.initial_state.detach().double().requires_grad_()
        state = state + leaves["initial_state"]
    if problem.carried is not None:
        leaves["gate"] = problem.carried.gate.detach().double().requires_grad_()
        leaves["carried_state"] = problem.carried.state.detach().double().requires_grad_()
        carried = replace(problem.carried, gate=leaves["gate"], state=leaves["carried_state"])
        state = state + carried_reference(carried)
    y, final_state = recurrence(inputs, state, problem.lengths)
    loss = (y * problem.dy.double()).sum()
    if problem.dfinal_state is not None:
        loss = loss + (final_state * problem.dfinal_state.double()).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    named = dict(zip(leaves, gradients, strict=True))
    return {"y": y.detach(), "final_state": final_state.detach()} | named


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return |actual - expected| / |expected| in the 2-norm; NaN where anything is not finite."""
    actual, expected = actual.detach().double(), expected.detach().double()
    if not torch.isfinite(actual).all():
        return float("nan")
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-30))


def errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the relative error of every tensor that the reference has."""
    return {name: relative_error(actual[name], value) for name, value in expected.items()}
