"""What is read off logits and similarities, example by example."""

import math

import pytest
import torch
from torch.nn import functional as F

from fseed.tasks.base import EncodedExample
from fseed.training.batches import collate
from fseed.training.evaluation import ranking_rows, read_logits
from tests.training.build import build_example

TEXTS = [build_example(name, "text", "question") for name in "bcad"]


def read(examples: list[EncodedExample], logits: torch.Tensor):
    return read_logits(examples, collate(examples), logits)


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


SIMILARITIES = torch.tensor(
    [[3.0, 1.0, 2.0, 0.0], [5.0, 4.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 2.5]]
)


def test_ranks_count_from_one_and_ties_count_against_the_right_context():
    rows = ranking_rows(TEXTS, SIMILARITIES)
    assert [row["rank"] for row in rows] == [1.0, 4.0, 4.0, 2.0]
    assert [row["num_correct"] for row in rows] == [1, 0, 0, 0]
    assert [row["example_id"] for row in rows] == ["b", "c", "a", "d"]
    expected = F.cross_entropy(SIMILARITIES, torch.arange(4), reduction="none")
    assert [row["loss_sum"] for row in rows] == pytest.approx(expected.tolist())
    assert {row["num_tokens"] for row in rows} == {1}


def test_an_embedding_that_is_not_a_number_ranks_last():
    similarities = torch.full((2, 2), math.nan)
    assert [row["rank"] for row in ranking_rows(TEXTS[:2], similarities)] == [2.0, 2.0]
