"""The models of the plain loop: FLA's, and ours without any fusion.

Unfused is how the earlier scripts trained: eager, logits of every position, the chunked operator
in PyTorch, AdamW as PyTorch chooses it, and the loss of every step read and written at once.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench_throughput.fla_model import IGNORED, build_fla, check_parity, join_rows
from bench_throughput.jobs import Trainer
from fseed.config.schema import RunConfig
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed.training.build import build_learner
from fseed.training.records import run_device

PARITY_TOKENS = 512  # of a row, of two rows
Inputs = tuple[Tensor, ...]


@dataclass
class Side:
    """A model in the loop, its loss, and what it shares with nobody else.

    ``inputs`` makes of a batch what ``loss`` reads, on the CPU and before anything is timed.
    """

    shape: RWKV7Shape
    parameters: list[nn.Parameter]
    inputs: Callable[[PromptAnswer], Inputs]
    loss: Callable[..., Tensor]  # mean over the answer tokens
    autocast: Callable[[], AbstractContextManager[Any]]
    record: Path | None = None  # where every step is written at once; None: nothing waits
    masters: list[nn.Parameter] | None = None  # float32, where ``parameters`` are bf16
    facts: dict[str, Any] = field(default_factory=dict)


def build_side(trainer: Trainer, config: RunConfig, batch: PromptAnswer, *, record: Path) -> Side:
    """Return the model of ``trainer`` on the device; FLA's is compared with ours first.

    Raises:
        NotEqual: where theirs is not the same function.
    """
    device = run_device(config)
    learner = build_learner(config).to(device)
    model, future_seed = learner.model, learner.future_seed

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    if trainer.kind == "fla":
        return _build_fla_side(trainer, model, batch, autocast)
    model.use_backend("chunked")
    inputs = join_rows if future_seed is None else _prompt_and_answer

    def loss(*parts: Tensor) -> Tensor:
        if future_seed is None:
            return joined_loss(model, *parts)
        prompt, prompt_lengths, answer, answer_lengths = parts
        batch = PromptAnswer(prompt, prompt_lengths, answer, answer_lengths)
        return seeded_loss(model, future_seed, batch)

    facts = {"step": "eager", "backend": "chunked"}
    parameters = list(model.parameters())
    return Side(model.shape, parameters, inputs, loss, autocast, record=record, facts=facts)


def _build_fla_side(
    trainer: Trainer,
    model: RWKV7,
    batch: PromptAnswer,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Side:
    theirs = build_fla(model, fused_loss=trainer.fused_loss)
    masters = None
    if trainer.bf16_weights:
        autocast = nullcontext
        masters = [nn.Parameter(p.detach().clone()) for p in theirs.parameters()]
        theirs = theirs.to(torch.bfloat16)
    parity = check_parity(model, theirs, shorten(batch), autocast=autocast)

    def loss(ids: Tensor, labels: Tensor) -> Tensor:
        return theirs(ids, labels=labels).loss

    return Side(
        shape=model.shape,
        parameters=list(theirs.parameters()),
        inputs=join_rows,
        loss=loss,
        autocast=autocast,
        masters=masters,
        facts={"step": "eager", "backend": "fla", "parity": parity},
    )


def joined_loss(model: RWKV7, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of the answer tokens from the logits of every position of the text."""
    logits = model.logits(model(ids).hidden[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def seeded_loss(model: RWKV7, future_seed: FutureSeed, batch: PromptAnswer) -> Tensor:
    """Return the mean loss of answers that continue a prompt read with Future-Seed."""
    out = model(batch.prompt, lengths=batch.prompt_lengths, future_seed=future_seed)
    rows = torch.arange(batch.prompt.shape[0], device=batch.prompt.device)
    hidden = out.hidden[rows, batch.prompt_lengths - 1].unsqueeze(1)
    if batch.answer.shape[1] > 1:
        later = model(batch.answer[:, :-1], lengths=batch.answer_lengths - 1, state=out.state)
        hidden = torch.cat((hidden, later.hidden), dim=1)
    logits = model.logits(hidden).float()
    wanted = batch.answer.masked_fill(~batch.answer_mask, IGNORED)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def _prompt_and_answer(batch: PromptAnswer) -> Inputs:
    return batch.prompt, batch.prompt_lengths, batch.answer, batch.answer_lengths


def shorten(batch: PromptAnswer) -> PromptAnswer:
    """Return the beginnings of prompt and answer of two rows of a batch."""
    answer = min(PARITY_TOKENS // 8, int(batch.answer_lengths.min()))
    prompt = min(PARITY_TOKENS - answer, int(batch.prompt_lengths.min()))
    rows = min(2, batch.prompt.shape[0])
    return PromptAnswer(
        prompt=batch.prompt[:rows, :prompt],
        prompt_lengths=torch.full((rows,), prompt),
        answer=batch.answer[:rows, :answer],
        answer_lengths=torch.full((rows,), answer),
    )
