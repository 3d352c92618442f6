"""The Lightning module of a run: loss, optimiser and gradient clipping."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.training.objectives import Learner
from fseed.training.optimizer import build_optimizer, build_warmup, clip_gradients


class FutureSeedModule(L.LightningModule):
    """One arm in training; the loss is that of its objective."""

    def __init__(self, config: RunConfig, learner: Learner) -> None:
        """Hold the parts; nothing is built here."""
        super().__init__()
        self.config, self.learner = config, learner
        self.grad_norm = math.nan  # of what the objective trains, gates aside, before clipping

    @property
    def model(self) -> RWKV7:
        """The backbone."""
        return self.learner.model

    @property
    def future_seed(self) -> FutureSeed | None:
        """The gates; None for the baseline."""
        return self.learner.future_seed

    def training_step(self, batch: PromptAnswer, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss in nats."""
        return {"loss": self.learner.loss(batch)}

    def configure_optimizers(self) -> Any:
        """AdamW with the groups of ``optimizer.py`` and a linear warm-up per step."""
        optimizer = build_optimizer(self.config, self.learner)
        warmup = build_warmup(optimizer, warmup_steps=self.config.optim.warmup_steps)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip backbone, task head and gates apart: a gate must not change the backbone's step."""
        bound = self.config.optim.grad_clip
        head_norm = clip_gradients(self.learner.task_head, max_norm=bound)
        self.grad_norm = math.hypot(clip_gradients(self.model, max_norm=bound), head_norm)
        clip_gradients(self.future_seed, max_norm=bound)
