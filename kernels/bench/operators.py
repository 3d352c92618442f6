"""One interface over our launchers and over libraries with autograd.

``convert`` brings a problem into the layout of the library, outside the timed region; ``forward``,
``forward_backward`` and ``prompt`` are timed; ``named`` brings results back to house layout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.data import NAMES, convert_decay
from fseed_kernels.launchers import Launcher
from fseed_kernels.problem import Carried, Gradients, Outputs
from fseed_kernels.reference import Problem

Results = tuple[Tensor, ...]  # y, final_state, then the gradients in the order of GRADIENTS
GRADIENTS: tuple[str, ...] = (*NAMES, "initial_state")
# r, decay, k, v, alpha, beta, initial_state -> y, final_state
Function = Callable[..., tuple[Tensor, Tensor]]


class Operator(Protocol):
    """What a version of the recurrence offers to the benchmark."""

    form: str

    def convert(self, problem: Problem) -> Any:
        """Bring a problem to the conventions of the library; outside what is timed."""
        ...

    def forward(self, native: Any) -> object:
        """Run the forward pass, keeping what a backward pass needs."""
        ...

    def forward_backward(self, native: Any) -> Results:
        """Run both passes; the results stay in the library's layout."""
        ...

    def prompt(self, native: Any) -> Results:
        """Run the forward pass without gradient."""
        ...

    def named(self, results: Results) -> dict[str, Tensor]:
        """Return results by name in the layout of ``fseed_kernels.reference``."""
        ...


@dataclass(frozen=True)
class Native:
    """Inputs of a library with autograd: six inputs and the state, and the output gradients."""

    leaves: tuple[Tensor, ...]
    dy: Tensor
    dfinal_state: Tensor


class AutogradOperator:
    """A differentiable function of a library; ``state_kv``: its states are [B, H, K, V]."""

    def __init__(self, function: Function, *, form: str, state_kv: bool) -> None:
        """Wrap ``function``; ``form`` is the decay form (bench.data)."""
        self.function, self.form, self.state_kv = function, form, state_kv

    def convert(self, problem: Problem) -> Native:
        """Convert decay form and state layout; the leaves ask for gradients."""
        tensors = convert_decay(problem, self.form).inputs.tensors
        assert problem.initial_state is not None
        assert problem.dfinal_state is not None
        leaves = (*tensors, self._turn(problem.initial_state))
        return Native(
            leaves=tuple(x.detach().clone().requires_grad_() for x in leaves),
            dy=problem.dy,
            dfinal_state=self._turn(problem.dfinal_state),
        )

    def forward(self, native: Native) -> object:
        """Run the training forward pass, with what it keeps for the backward pass."""
        return self.function(*native.leaves)

    def forward_backward(self, native: Native) -> Results:
        """Run both passes; gradients of all seven leaves."""
        y, final_state = self.function(*native.leaves)
        outputs = (y, final_state)
        gradients = torch.autograd.grad(outputs, native.leaves, (native.dy, native.dfinal_state))
        return (y.detach(), final_state.detach(), *gradients)

    def prompt(self, native: Native) -> Results:
        """Run the forward pass without gradients."""
        with torch.no_grad():
            return self.function(*native.leaves)

    def named(self, results: Results) -> dict[str, Tensor]:
        """Name the results, states as [B, H, V, K]."""
        named = name_results(results)
        for name in ("final_state", "initial_state"):
            if name in named:
                named[name] = self._turn(named[name])
        return named

    def _turn(self, state: Tensor) -> Tensor:
        return state.transpose(-1, -2).contiguous() if self.state_kv else state


class LaunchOperator:
    """Our launchers, called without autograd, in bf16."""

    form = "logit"

    def __init__(self, launch: Launcher) -> None:
        """Wrap the entries of a backend."""
        self.launch = launch

    def convert(self, problem: Problem) -> Problem:
        """Return the problem as it is."""
        return problem

    def forward(self, native: Problem) -> Results:
        """Run the training forward pass; what it keeps is dropped unread."""
        outputs = self._forward(native, keep=True)
        return outputs.y, outputs.final_state

    def forward_backward(self, native: Problem) -> Results:
        """Run both passes; gradients of all seven inputs."""
        y, final_state, gradients = self.both(native)
        return (y, final_state, *(getattr(gradients, name) for name in GRADIENTS))

    def both(self, native: Problem) -> tuple[Tensor, Tensor, Gradients]:
        """Run both passes; with a carried state, its gradient and the gate's as well."""
        outputs = self._forward(native, keep=True)
        gradients = self.launch.backward(
            native.inputs,
            outputs.saved,
            native.dy,
            native.dfinal_state,
            carried=native.carried,
            lengths=None,
            precision="bf16",
            **({} if native.carried is None else {"needs_carried": True}),
        )
        return outputs.y, outputs.final_state, gradients

    def prompt(self, native: Problem) -> Results:
        """Run the forward pass without keeping anything."""
        outputs = self._forward(native, keep=False)
        return outputs.y, outputs.final_state

    def decode(self, native: Problem) -> Results:
        """Run the kernel for few tokens."""
        outputs = self.launch.decode(
            native.inputs, initial_state=native.initial_state, carried=None, lengths=None
        )
        return outputs.y, outputs.final_state

    def named(self, results: Results) -> dict[str, Tensor]:
        """Name the results."""
        return name_results(results)

    def _forward(self, native: Problem, *, keep: bool) -> Outputs:
        return self.launch.forward(
            native.inputs,
            initial_state=native.initial_state,
            carried=native.carried,
            lengths=None,
            precision="bf16",
            keep=keep,
        )


def name_results(results: Results) -> dict[str, Tensor]:
    """Name y, final_state and the gradients that are there."""
    return dict(zip(("y", "final_state", *GRADIENTS), results, strict=False))


def draw_carried(problem: Problem, *, seed: int) -> Carried:
    """Draw a previous final state with its squares, and a gate, for the problem's sizes."""
    b, _, h, d = problem.inputs.sizes
    state = problem.dy.new_empty((b, h, d, d), dtype=torch.float32)
    generator = torch.Generator(state.device).manual_seed(seed)
    state.normal_(generator=generator)
    squares = state.square().unflatten(2, (d // 16, 16)).sum((3, 4))
    gate = torch.rand(b, h, generator=generator, device=state.device)
    return Carried(state=state, squares=squares, gate=gate, clip=1.0)
