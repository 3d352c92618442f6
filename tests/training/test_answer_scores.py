"""What is read off logits, example by example, whole or in blocks."""

import math

import pytest
import torch
from torch.nn import functional as F

from fseed.tasks.base import EncodedExample
from fseed.training import answer_scores
from fseed.training.answer_scores import (
    blocks,
    next_token_losses,
    read_predictions,
    score_answers,
)
from fseed.training.batches import collate
from tests.models.build import build_batch, build_random_model
from tests.training.build import build_example


def read(examples: list[EncodedExample], logits: torch.Tensor):
    scores = score_answers(
        lambda hidden: hidden, logits, collate(examples), examples=examples, vocab_size=256
    )
    return read_predictions(examples, scores)


def test_logits_are_read_at_every_answer_position_and_pads_are_not():
    logits = torch.randn(2, 4, 256, generator=torch.Generator().manual_seed(0))
    examples = [build_example("a", "p", "ab"), build_example("b", "p", "abc")]
    for i, prediction in enumerate(read(examples, logits)):
        gold = torch.tensor(examples[i].answer_ids)
        part = logits[i, : len(gold)]
        assert prediction.token_ids == part.argmax(-1).tolist()
        assert prediction.loss_sum == pytest.approx(
            F.cross_entropy(part.double(), gold, reduction="sum").item(), rel=1e-6
        )
        assert prediction.label_ids == []
        assert prediction.label_scores is None


def test_labels_are_read_at_the_units_alone_and_among_themselves():
    logits = torch.zeros(1, 4, 256)
    logits[0, 1, ord("C")], logits[0, 1, ord("B")], logits[0, 1, ord("x")] = 2.0, 1.0, 9.0
    logits[0, 2, ord("B")], logits[0, 0, ord("A")] = 1.0, 5.0
    (found,) = read([build_example("a", "p", "ABC", units=(1, 2), label_ids=tuple(b"ABC"))], logits)
    assert bytes(found.label_ids) == b"CB"
    assert found.label_scores is None
    assert found.token_ids[1] == ord("x")


def test_of_two_labels_the_probability_of_the_last_is_kept():
    logits = torch.zeros(1, 4, 256)
    logits[0, 0, ord("1")], logits[0, 2, ord("0")] = 2.0, 1.0
    logits[0, 0, ord("x")] = 50.0
    (found,) = read([build_example("a", "p", "110", units=(0, 2), label_ids=tuple(b"01"))], logits)
    assert bytes(found.label_ids) == b"10"
    assert found.label_scores == pytest.approx(
        [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))], rel=1e-6
    )


def test_examples_of_a_batch_may_offer_different_labels():
    logits = torch.randn(2, 2, 256, generator=torch.Generator().manual_seed(1))
    examples = [
        build_example("a", "p", "A", label_ids=tuple(b"AB")),
        build_example("b", "p", "3", label_ids=tuple(b"1234")),
    ]
    two, four = read(examples, logits)
    assert two.label_scores is not None
    assert len(two.label_scores) == 1
    assert four.label_scores is None
    best = max(b"1234", key=lambda label: logits[1, 0, label].item())
    assert four.label_ids == [best]


MIXED = [
    build_example("a", "p", "ABC", units=(2, 0), label_ids=tuple(b"ABC")),
    build_example("b", "p", "01101", units=(4, 1, 3), label_ids=tuple(b"01")),
    build_example("c", "p", "free"),
    build_example("d", "p", "3", label_ids=tuple(b"1234")),
]


@pytest.mark.parametrize("at_once", [1, 256, 3 * 256, 7 * 256, 13 * 256, 24 * 256])
def test_blocks_change_no_digit(monkeypatch, at_once):
    logits = torch.randn(4, 6, 256, generator=torch.Generator().manual_seed(2))
    expected = read(MIXED, logits)
    monkeypatch.setattr(answer_scores, "LOGITS_AT_ONCE", at_once)
    assert read(MIXED, logits) == expected
    assert [len(found.label_ids) for found in expected] == [2, 3, 0, 1]


def test_no_block_holds_more_logits_than_allowed(monkeypatch):
    monkeypatch.setattr(answer_scores, "LOGITS_AT_ONCE", 1000)
    sizes = []

    def head(hidden: torch.Tensor) -> torch.Tensor:
        sizes.append(hidden.shape[0] * hidden.shape[1])
        return hidden.expand(-1, -1, 300)

    batch = build_batch([2] * 5, [7] * 5)
    score_answers(head, torch.zeros(5, 7, 1), batch, vocab_size=300)
    assert sum(sizes) == 35
    assert max(sizes) == 3


@pytest.mark.parametrize(
    ("samples", "positions"), [(1, 1), (5, 7), (7, 5), (16, 1), (1, 16), (3, 0)]
)
@pytest.mark.parametrize("at_once", [1, 2, 5, 6, 16, 1000])
def test_blocks_hold_every_position_once(monkeypatch, samples, positions, at_once):
    monkeypatch.setattr(answer_scores, "LOGITS_AT_ONCE", 10 * at_once)
    seen = torch.zeros(samples, positions)
    for block in blocks(samples, positions, vocab_size=10):
        assert seen[block].numel() <= at_once
        seen[block] += 1
    assert torch.equal(seen, torch.ones(samples, positions))


def test_losses_ignore_pads():
    batch = build_batch([3, 3], [9, 4])
    scores = score_answers(lambda hidden: hidden, torch.zeros(2, 9, 256), batch, vocab_size=256)
    assert scores.loss_sums.tolist() == pytest.approx([9 * 5.545177, 4 * 5.545177])
    assert scores.label_logits.numel() == 0


@torch.no_grad()
def test_next_tokens_are_those_of_the_prompt_whole_or_in_blocks(monkeypatch):
    model = build_random_model()
    batch = build_batch([9, 5, 7], [1, 1, 1])
    logits = model.logits(model(batch.prompt, lengths=batch.prompt_lengths).hidden)
    expected = torch.zeros(3, 8)
    for row, tokens, length, own in zip(
        expected, batch.prompt, batch.prompt_lengths.tolist(), logits, strict=True
    ):
        losses = F.cross_entropy(own[: length - 1], tokens[1:length], reduction="none")
        row[: length - 1] = losses.float()
    for at_once in (24 * 40, 5 * 40, 40):
        monkeypatch.setattr(answer_scores, "LOGITS_AT_ONCE", at_once)
        assert torch.allclose(next_token_losses(model, batch), expected, rtol=1e-5, atol=0)
