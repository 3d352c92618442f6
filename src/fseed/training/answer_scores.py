"""What a model says at every answer position, without ever holding the logits of all of them.

The positions meet the vocabulary in blocks; what is read off stays on the device until all of a
batch is copied at once. B batch, A answer tokens, C width, U units with labels, M labels of a unit
at most.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.tasks.base import EncodedExample
from fseed.tasks.scoring import Prediction
from fseed.training.transfer import move

LOGITS_AT_ONCE = 2**27  # 0.5 GiB in float32, 2,048 positions of the World vocabulary
Block = tuple[slice, slice]  # samples, positions


class AnswerScores(NamedTuple):
    """What was predicted for a batch when the gold answers are given."""

    loss_sums: Float[Tensor, " B"]  # nats, float64, over the tokens of each answer
    token_ids: Int[Tensor, "B A"]  # the likeliest
    label_logits: Float[Tensor, "U M"]  # of the examples' units in turn; beyond a unit's labels: 0


class _Labels(NamedTuple):
    """The units of a batch whose labels are scored, in turn; on the host."""

    sample: Int[Tensor, " U"]
    position: Int[Tensor, " U"]
    ids: Int[Tensor, "U M"]  # pads are 0


def score_answers(
    head: Callable[[Tensor], Tensor],
    hidden: Float[Tensor, "B A C"],
    batch: PromptAnswer,
    *,
    examples: Sequence[EncodedExample] = (),
    vocab_size: int,
) -> AnswerScores:
    """Return the scores of a batch, on its device; ``head`` gives the logits of hidden vectors.

    Labels are those of ``examples``.
    """
    device, labels = hidden.device, _list_labels(examples)
    losses = torch.empty(batch.answer.shape, dtype=torch.float32, device=device)
    token_ids = torch.empty_like(batch.answer)
    label_logits = torch.zeros(labels.ids.shape, dtype=torch.float32, device=device)
    for samples, positions in blocks(*hidden.shape[:2], vocab_size=vocab_size):
        logits = head(hidden[samples, positions]).float()
        token_ids[samples, positions] = logits.argmax(-1)
        losses[samples, positions] = _nll(logits, batch.answer[samples, positions])
        _read_labels(logits, labels, (samples, positions), into=label_logits)
    return AnswerScores((losses.double() * batch.answer_mask).sum(1), token_ids, label_logits)


def next_token_losses(model: RWKV7, batch: PromptAnswer) -> Float[Tensor, "B P-1"]:
    """Return the loss in nats of every prompt token but the first; 0 on pads."""
    hidden = model(batch.prompt, lengths=batch.prompt_lengths).hidden[:, :-1]
    targets = batch.prompt[:, 1:]
    losses = torch.empty(targets.shape, dtype=torch.float32, device=targets.device)
    for block in blocks(*targets.shape, vocab_size=model.shape.vocab_size):
        losses[block] = _nll(model.logits(hidden[block]).float(), targets[block])
    places = torch.arange(1, batch.prompt.shape[1], device=targets.device)
    return losses * (places < batch.prompt_lengths.unsqueeze(1))


def blocks(num_samples: int, num_positions: int, *, vocab_size: int) -> Iterator[Block]:
    """Cut samples and their positions so that no block has more than LOGITS_AT_ONCE logits.

    >>> list(blocks(3, 2, vocab_size=LOGITS_AT_ONCE // 4))
    [(slice(0, 2, None), slice(0, 2, None)), (slice(2, 3, None), slice(0, 2, None))]
    """
    at_once = max(LOGITS_AT_ONCE // vocab_size, 1)
    width = max(min(num_positions, at_once), 1)
    height = at_once // width
    for sample in range(0, num_samples, height):
        for position in range(0, num_positions, width):
            yield (
                slice(sample, min(sample + height, num_samples)),
                slice(position, min(position + width, num_positions)),
            )


def _nll(logits: Float[Tensor, "b a vocab"], targets: Int[Tensor, "b a"]) -> Float[Tensor, "b a"]:
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return nll.view_as(targets)


def _list_labels(examples: Sequence[EncodedExample]) -> _Labels:
    units = [(i, unit) for i, example in enumerate(examples) for unit in _labelled_units(example)]
    places = torch.tensor(units, dtype=torch.int64).view(-1, 2)
    most = max((len(example.label_ids) for example in examples), default=0)
    ids = torch.zeros(len(units), most, dtype=torch.int64)
    for row, (i, _) in zip(ids, units, strict=True):
        row[: len(examples[i].label_ids)] = torch.tensor(examples[i].label_ids)
    return _Labels(places[:, 0], places[:, 1], ids)


def _labelled_units(example: EncodedExample) -> Sequence[int]:
    return example.units if example.label_ids else ()


def _read_labels(logits: Tensor, labels: _Labels, block: Block, *, into: Tensor) -> None:
    """Write the logits of the labels of all units of ``block``."""
    samples, positions = block
    is_inside = (labels.sample >= samples.start) & (labels.sample < samples.stop)
    is_inside &= (labels.position >= positions.start) & (labels.position < positions.stop)
    rows = is_inside.nonzero().squeeze(1)
    if len(rows) == 0:
        return
    at, sample, position, ids = (
        move(x, logits.device)
        for x in (
            rows,
            labels.sample[rows] - samples.start,
            labels.position[rows] - positions.start,
            labels.ids[rows],
        )
    )
    into[at] = logits[sample, position].gather(1, ids)


def read_predictions(examples: Sequence[EncodedExample], scores: AnswerScores) -> list[Prediction]:
    """Return what scores on the host say about each example."""
    loss_sums, guesses = scores.loss_sums.tolist(), scores.token_ids.tolist()
    num_units = [len(_labelled_units(example)) for example in examples]
    predictions = []
    for i, label_logits in enumerate(scores.label_logits.split(num_units)):
        label_ids, label_scores = _choose_labels(examples[i], label_logits)
        prediction = Prediction(
            token_ids=guesses[i][: len(examples[i].answer_ids)],
            label_ids=label_ids,
            label_scores=label_scores,
            loss_sum=loss_sums[i],
        )
        predictions.append(prediction)
    return predictions


def _choose_labels(
    example: EncodedExample, label_logits: Float[Tensor, "U M"]
) -> tuple[list[int], list[float] | None]:
    """Return the likeliest label of each unit, and of two labels the probability of the last."""
    if not example.label_ids:
        return [], None
    offered = label_logits[:, : len(example.label_ids)]
    best = torch.tensor(example.label_ids)[offered.argmax(-1)].tolist()
    if len(example.label_ids) != 2:
        return best, None
    return best, offered.softmax(-1)[:, 1].tolist()
