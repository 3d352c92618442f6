"""What is read off similarities, question by question."""

import math

import pytest
import torch
from torch.nn import functional as F

from fseed.training.evaluation import ranking_rows
from tests.training.build import build_example

TEXTS = [build_example(name, "text", "question") for name in "bcad"]
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
