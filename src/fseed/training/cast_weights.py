"""Copies of the matrices in the precision of the products, made once a step in a few launches.

Autocast would cast every matrix by itself, and its gradient back. Autograd adds up in the precision
of a copy whatever its readers leave there, so a pass must read each of them only once.
"""

import torch
from torch import Tensor
from torch.func import functional_call

from fseed.config.schema import ControlKind, Precision, RunConfig
from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import Objective
from fseed.training.objectives import Learner


def reads_once(config: RunConfig, learner: Learner) -> bool:
    """Tell whether a pass of this run reads, and trains, every matrix exactly once under bf16.

    ``same_layer`` reads a prompt twice, layers that are computed again do so behind the pass, and
    retrieval trains no matrix.
    """
    return (
        config.trainer.precision is Precision.bf16
        and config.control.kind is not ControlKind.same_layer
        and not config.trainer.activation_checkpointing
        and learner.objective is not Objective.retrieval
    )


class CastWeights:
    """bf16 copies of the matrices of all layers; float32 gradients go to the matrices."""

    def __init__(self, learner: Learner) -> None:
        """Allocate the copies, which stay where they are: a graph may read them."""
        self._learner = learner
        named = learner.model.matrices()
        self._masters: list[Tensor] = list(named.values())
        self._copies = {
            f"model.{name}": matrix.detach().bfloat16().requires_grad_()
            for name, matrix in named.items()
        }

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the matrices as they are now; what a pass that broke off left behind is dropped."""
        for copy in self._copies.values():
            copy.grad = None
        _copy_all(list(self._copies.values()), self._masters)

    def loss(self, batch: PromptAnswer) -> Tensor:
        """Return the loss of the learner, computed with the copies."""
        return functional_call(self._learner, self._copies, (batch,))

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of a backward pass to those of the matrices.

        Raises:
            RuntimeError: if the pass did not read every matrix.
        """
        gradients = [copy.grad for copy in self._copies.values() if copy.grad is not None]
        if len(gradients) != len(self._masters):
            unread = [name for name, copy in self._copies.items() if copy.grad is None]
            raise RuntimeError(f"no gradient of {', '.join(unread[:3])}: not read by the pass")
        whole = [torch.empty_like(matrix) for matrix in self._masters]
        _copy_all(whole, gradients)
        for master, copy, gradient in zip(self._masters, self._copies.values(), whole, strict=True):
            copy.grad = None
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    torch._foreach_copy_(targets, sources)  # pyright: ignore[reportPrivateImportUsage] few launches
