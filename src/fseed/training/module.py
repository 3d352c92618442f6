"""The Lightning module of a run: loss, optimiser and gradient clipping."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer, answer_hidden
from fseed.models.rwkv7 import RWKV7
from fseed.training.optimizer import build_optimizer, build_warmup, clip_gradients


class FutureSeedModule(L.LightningModule):
    """Backbone and gates of one arm, trained on answer tokens.

    Loss: mean over all answer tokens of the batch, the end-of-text token included.
    """

    def __init__(self, config: RunConfig, *, model: RWKV7, future_seed: FutureSeed | None) -> None:
        """Hold the parts; nothing is built here."""
        super().__init__()
        self.config, self.model, self.future_seed = config, model, future_seed
        self.grad_norm = math.nan  # of the backbone, before clipping

    def training_step(self, batch: PromptAnswer, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss in nats per answer token."""
        hidden = answer_hidden(self.model, batch, future_seed=self.future_seed)
        mask = batch.answer_mask
        # only rows that predict a true token meet the vocabulary
        logits = self.model.logits(hidden[mask]).float()
        return {"loss": F.cross_entropy(logits, batch.answer[mask])}

    def configure_optimizers(self) -> Any:
        """AdamW with the groups of ``optimizer.py`` and a linear warm-up per step."""
        optimizer = build_optimizer(self.config, self.model, self.future_seed)
        warmup = build_warmup(optimizer, warmup_steps=self.config.optim.warmup_steps)
        return [optimizer], [{"scheduler": warmup, "interval": "step"}]

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip backbone and gates apart: a gate must not change the backbone's step."""
        bound = self.config.optim.grad_clip
        self.grad_norm = clip_gradients(self.model, max_norm=bound)
        clip_gradients(self.future_seed, max_norm=bound)
