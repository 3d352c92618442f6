"""Inputs of a shape, and the float64 recurrence that errors are measured against.

A decay form says what a library's decay argument means: ``logit`` (log_decay =
-exp(-0.5) sigmoid(x)), ``log_decay``, or ``double_exponent`` (log_decay = -exp(x)).
"""

from dataclasses import replace

import torch
from torch import Tensor

from bench.shapes import Shape
from fseed_kernels.problem import Inputs
from fseed_kernels.reference import LOG_DECAY_SCALE, Problem

DECAY_FORMS = ("logit", "log_decay", "double_exponent")
NAMES = ("r", "decay_logit", "k", "v", "alpha", "beta")


def draw_problem(shape: Shape, *, seed: int, device: str = "cuda") -> Problem:
    """Draw typical data on the device: bf16 inputs, random initial state and gradients."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    size, state = (shape.b, shape.t, shape.h, shape.d), (shape.b, shape.h, shape.d, shape.d)
    kk = torch.nn.functional.normalize(normal(*size), dim=-1)
    a = torch.sigmoid(2 * normal(*size))
    drawn = (normal(*size), 3 * normal(*size) - 1, 0.5 * normal(*size), normal(*size), -kk, kk * a)
    return Problem(
        inputs=Inputs(*(x.to(torch.bfloat16) for x in drawn)),
        initial_state=normal(*state),
        carried=None,
        lengths=None,
        dy=normal(*size).to(torch.bfloat16),
        dfinal_state=normal(*state),
    )


def to_decay_form(decay_logit: Tensor, form: str) -> Tensor:
    """Return the decay argument of a library, rounded to the dtype of ``decay_logit``."""
    logit = decay_logit.double()
    if form == "log_decay":
        return (LOG_DECAY_SCALE * torch.sigmoid(logit)).to(decay_logit.dtype)
    if form == "double_exponent":
        # exp(-exp(-softplus(-x) - 1/2)) = exp(-exp(-1/2) sigmoid(x))
        exponent = torch.nn.functional.logsigmoid(logit) - 0.5
        return exponent.to(decay_logit.dtype)
    return decay_logit


def to_log_decay(decay: Tensor, form: str) -> Tensor:
    """Return the log decay that a library computes with, from its own decay argument."""
    if form == "log_decay":
        return decay
    if form == "double_exponent":
        return -torch.exp(decay)
    return LOG_DECAY_SCALE * torch.sigmoid(decay)


def convert_decay(problem: Problem, form: str) -> Problem:
    """Return the problem with its decay argument in the form of a library."""
    decay = to_decay_form(problem.inputs.decay_logit, form)
    return replace(problem, inputs=replace(problem.inputs, decay_logit=decay))


def reference(problem: Problem, form: str) -> dict[str, Tensor]:
    """Return y, final_state and all gradients in float64, token by token.

    The decay is the one the library was given, rounding included, and its gradient is the
    gradient of that argument: rounding the inputs is nobody's error.
    """
    leaves = {
        name: tensor.detach().double().requires_grad_()
        for name, tensor in zip(NAMES, problem.inputs.tensors, strict=True)
    }
    assert problem.initial_state is not None
    leaves["initial_state"] = problem.initial_state.detach().double().requires_grad_()
    r, decay, k, v, alpha, beta, state = leaves.values()
    factor = torch.exp(to_log_decay(decay, form))
    outputs = []
    for t in range(r.shape[1]):
        read = state @ alpha[:, t].unsqueeze(-1)
        state = state * factor[:, t].unsqueeze(-2) + read * beta[:, t].unsqueeze(-2)
        state = state + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        outputs.append((state @ r[:, t].unsqueeze(-1)).squeeze(-1))
    y = torch.stack(outputs, 1)
    assert problem.dfinal_state is not None  # every version is timed with both gradients
    loss = (y * problem.dy.double()).sum() + (state * problem.dfinal_state.double()).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    named = dict(zip(leaves, gradients, strict=True))
    return {"y": y.detach(), "final_state": state.detach()} | named
