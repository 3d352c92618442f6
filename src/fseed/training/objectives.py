"""What a batch teaches: next tokens of an answer, masked positions, or nearness of two texts.

The ``Learner`` holds everything of one arm that is trained or carried: backbone, gates, and the
task head (mask embedding or projection) where the objective has one.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fseed.models.fill import MaskEmbedding, fill_hidden
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer, answer_hidden
from fseed.models.retrieval import Projection, contrastive_logits, embed_texts
from fseed.models.rwkv7 import RWKV7
from fseed.models.sharded import is_sharded
from fseed.ops.linear_cross_entropy import linear_cross_entropy, mean_cross_entropy
from fseed.tasks.base import Objective


class Learner(nn.Module):
    """Backbone, gates and task head of one arm, under one objective."""

    def __init__(
        self, model: RWKV7, future_seed: FutureSeed | None, *, objective: Objective
    ) -> None:
        """Add the task head; retrieval freezes the backbone."""
        super().__init__()
        self.model, self.future_seed, self.objective = model, future_seed, objective
        width = model.shape.width
        self.task_head: nn.Module | None = None
        if objective is Objective.fill:
            self.task_head = MaskEmbedding(width)
        if objective is Objective.retrieval:
            self.task_head = Projection(width)
            model.requires_grad_(False)

    def forward(self, batch: PromptAnswer) -> Tensor:
        """Return ``loss``: the call that sharded weights are gathered for."""
        return self.loss(batch)

    def loss(self, batch: PromptAnswer) -> Tensor:
        """Return the mean loss in nats: per answer token, or per question (retrieval)."""
        if self.objective is Objective.retrieval:
            questions, contexts = self.embed(batch)
            targets = torch.arange(len(questions), device=questions.device)
            return F.cross_entropy(contrastive_logits(questions, contexts), targets)
        # only rows that predict a true token meet the vocabulary
        hidden = self.hidden(batch)
        if batch.rows is not None and batch.row_targets is not None:
            # its derivative adds the pads, whose gradient is 0, to row 0
            hidden = hidden.flatten(0, 1).index_select(0, batch.rows)
            targets = batch.row_targets
        else:
            mask = batch.answer_mask
            hidden, targets = hidden[mask], batch.answer[mask]
        return self._cross_entropy(hidden, targets, batch.num_targets)

    def _cross_entropy(self, hidden: Tensor, targets: Tensor, num_targets: Tensor | None) -> Tensor:
        weight = self.model.head.weight
        # FSDP2 gathers the table for a call of its module only: all logits, whatever the backend
        if is_sharded(weight):
            return mean_cross_entropy(self.model.logits(hidden), targets, num_targets=num_targets)
        return linear_cross_entropy(
            hidden, weight, targets, num_targets=num_targets, backend=self.model.backend
        )

    def hidden(self, batch: PromptAnswer, *, seeded: bool = True) -> Tensor:
        """Return the vectors [B, A, C] that predict the answer tokens.

        ``seeded`` False reads without Future-Seed, to look at the backbone alone.
        """
        future_seed = self.future_seed if seeded else None
        if self.objective is Objective.fill:
            head = cast(MaskEmbedding, self.task_head)
            return fill_hidden(self.model, batch, mask_embedding=head, future_seed=future_seed)
        return answer_hidden(self.model, batch, future_seed=future_seed)

    def embed(self, batch: PromptAnswer) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the questions and of their contexts, [B, C] each."""
        head, keys = cast(Projection, self.task_head), batch.noise_keys
        # a question must not share the noise of its own context: that would bring them together
        other_keys = None if keys is None else tuple(key + 1 for key in keys)
        texts = (
            (batch.answer, batch.answer_lengths, other_keys),
            (batch.prompt, batch.prompt_lengths, keys),
        )
        question, context = (
            embed_texts(
                *(self.model, tokens, lengths),
                projection=head,
                future_seed=self.future_seed,
                noise_keys=text_keys,
            )
            for tokens, lengths, text_keys in texts
        )
        return question, context

    def count_tokens(self, batch: PromptAnswer) -> int:
        """Count the true tokens that this arm reads; what it reads twice counts twice."""
        if self.future_seed is None or not self.future_seed.reads_twice:
            return batch.num_tokens
        is_question = self.objective is Objective.retrieval
        again = batch.prompt_lengths.sum() + (batch.answer_lengths.sum() if is_question else 0)
        return batch.num_tokens + int(again)
