"""The Lightning module of a run: loss, micro-batches, optimiser and gradient clipping."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.training.distributed import ALONE, Ranks
from fseed.training.micro_batches import split_batch
from fseed.training.objectives import Learner
from fseed.training.optimizer import (
    build_optimizer,
    build_warmup,
    clip_gradients,
    freeze_gates,
)


class FutureSeedModule(L.LightningModule):
    """One arm in training; the loss is that of its objective."""

    def __init__(
        self,
        config: RunConfig,
        learner: Learner,
        *,
        ranks: Ranks = ALONE,
        prepare: Callable[[DeviceMesh | None], None] | None = None,
    ) -> None:
        """Hold the parts; nothing is built here.

        ``prepare`` shards the learner over the mesh of the ranks, before it has an optimiser.
        """
        super().__init__()
        self.config, self.learner, self.ranks = config, learner, ranks
        self._prepare = prepare
        self.grad_norm = math.nan  # of what the objective trains, gates aside, before clipping

    @property
    def model(self) -> RWKV7:
        """The backbone."""
        return self.learner.model

    @property
    def future_seed(self) -> FutureSeed | None:
        """The gates; None for the baseline."""
        return self.learner.future_seed

    def configure_model(self) -> None:
        """Freeze what has no learning rate, and shard where the ranks share the weights."""
        if self.future_seed is not None:
            # before DDP or FSDP2 learn which gradients to expect
            freeze_gates(self.future_seed, self.config)
        if self._prepare is not None:
            self._prepare(self.device_mesh)
            self._prepare = None

    def training_step(self, batch: PromptAnswer, batch_idx: int) -> dict[str, Tensor]:
        """Return ``loss``, whose backward pass is left to do, and ``batch_loss``, both in nats.

        They are equal without micro-batches and other ranks; with micro-batches, ``loss`` is the
        share of the last part. ``batch_loss`` is that of the whole batch of all ranks.
        """
        size = self.config.trainer.micro_batch_size
        *parts, last = split_batch(batch, size=size, ranks=self.ranks)
        # here, not behind this method: the parts add to the gradients before it returns
        super().optimizer_zero_grad(0, batch_idx, self._plain_optimizer())
        batch_loss = torch.zeros((), device=self.device)
        for part in parts:
            loss = self._share_of_loss(*part)
            # under autocast the backward pass would round what autograd computes in float32
            with torch.autocast(self.device.type, enabled=False):
                loss.backward()
            batch_loss = batch_loss + loss.detach()
        loss = self._share_of_loss(*last)
        return {"loss": loss, "batch_loss": self.ranks.mean(batch_loss + loss.detach())}

    def optimizer_zero_grad(self, *_: Any, **_unused: Any) -> None:
        """Leave the gradients alone, see ``training_step``."""

    def _share_of_loss(self, part: PromptAnswer, share: float) -> Tensor:
        loss = self.learner(part)
        return loss if share == 1 else loss * share

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def configure_optimizers(self) -> Any:
        """AdamW with the groups of ``optimizer.py`` and a linear warm-up per step."""
        optimizer = build_optimizer(self.config, self.learner)
        warmup = build_warmup(optimizer, warmup_steps=self.config.optim.warmup_steps)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Number the optimiser's states in the order of the parameters, as FSDP2 does.

        So a file of one device goes on in parts; a plain optimiser reads any numbers, by position.
        """
        parameters = list(self.parameters())
        if any(hasattr(parameter, "full_tensor") for parameter in parameters):
            return
        places = {id(parameter): i for i, parameter in enumerate(parameters)}
        groups = self._plain_optimizer().param_groups
        numbers = [places[id(parameter)] for group in groups for parameter in group["params"]]
        (state,) = checkpoint["optimizer_states"]
        checkpoint["optimizer_states"] = [
            {
                "state": {numbers[i]: values for i, values in state["state"].items()},
                "param_groups": [
                    {**group, "params": [numbers[i] for i in group["params"]]}
                    for group in state["param_groups"]
                ],
            }
        ]

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip backbone, task head, gates and learned state apart: none changes another's step."""
        bound = self.config.optim.grad_clip
        head_norm = clip_gradients(self.learner.task_head, max_norm=bound)
        self.grad_norm = math.hypot(clip_gradients(self.model, max_norm=bound), head_norm)
        if self.future_seed is not None:
            clip_gradients(self.future_seed, max_norm=bound, with_children=False)
            clip_gradients(self.future_seed.learned_state, max_norm=bound)
