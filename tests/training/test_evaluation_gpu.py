"""Scoring on a GPU: a batch is started without waiting, and its rows are those of a CPU."""

import contextlib

import pytest
import torch

from fseed.tasks.base import EncodedExample, Task
from fseed.tasks.fills import RIGHTCOPY
from fseed.tasks.hotpot import HOTPOT
from fseed.training import evaluation
from tests.training.build import build_example
from tests.training.test_evaluation import ANSWERS, FILLS, build_evaluator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LABELLED = [
    build_example("a", "one two", "0110", label_ids=tuple(b"01")),
    build_example("b", "three", "CAB", units=(2, 0), label_ids=tuple(b"ABC")),
]
CASES = [(HOTPOT, ANSWERS), (RIGHTCOPY, FILLS), (HOTPOT, LABELLED)]


@pytest.mark.parametrize(("task", "examples"), CASES)
def test_rows_are_those_of_a_cpu(task: Task, examples: list[EncodedExample]):
    rows = []
    for device in ("cpu", "cuda"):
        evaluator = build_evaluator(task, examples)
        evaluator.learner.to(device)
        rows.append(evaluator.evaluate(step=0, with_generation=True).rows)
    for one, other in zip(*rows, strict=True):
        assert one["loss_sum"] == pytest.approx(other["loss_sum"], rel=1e-4)
        scores = [row.pop("label_scores") for row in (one, other)]
        assert scores[0] is scores[1] is None or scores[0] == pytest.approx(scores[1], rel=1e-4)
        assert one | {"loss_sum": 0} == other | {"loss_sum": 0}


@pytest.mark.parametrize(("task", "examples"), CASES)
def test_a_batch_is_started_without_waiting(
    task: Task, examples: list[EncodedExample], monkeypatch
):
    evaluator = build_evaluator(task, examples, autocast=contextlib.nullcontext)
    evaluator.learner.to("cuda")
    expected = evaluator.evaluate(step=0, with_generation=False).rows  # and all is warm
    start = evaluation.Evaluator._start_answers

    def watched(self, *arguments, **options):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return start(self, *arguments, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(evaluation.Evaluator, "_start_answers", watched)
    assert evaluator.evaluate(step=0, with_generation=False).rows == expected
