import pytest
from task_helpers import Bytes, PlainBuild, data_config, make_row, task_config

from fseed.tasks.base import Objective, RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.hotpot_retrieval import (
    HOTPOT_RETRIEVAL,
    build_example,
    recall_at,
    reciprocal_rank_at,
)
from fseed.tasks.metrics import Pooled
from fseed.tasks.registry import load_task_data, resolve_order
from fseed.tasks.scoring import add_items, pool_metrics
from fseed.tasks.sections import render_prompt

CONTEXT = """Context:
Moss:
Moss grows on stone. It is green.
Alpha7:
Alpha7 is a keeper. Its friend is Beta7. It is old.
Beta7:
Beta7 moors in Port 7. It floats."""

QUESTION = "In which harbour does the keeper named kappa7 moor lambda7?"


def encode(*, max_length=1000, max_answer=100):
    return encode_example(
        build_example(make_row(7), PlainBuild(order="plain")),
        HOTPOT_RETRIEVAL.orders["plain"],
        objective=HOTPOT_RETRIEVAL.objective,
        tokenizer=Bytes(),
        max_length_tokens=max_length,
        max_answer_tokens=max_answer,
    )


def rank_row(number, rank):
    return {"example_id": f"e{number}", "kind": "bridge", "rank": float(rank)}


def test_golden_texts_and_scores():
    """Context and question are apart, and neither holds the answer's cue."""
    example = build_example(make_row(7), PlainBuild(order="plain"))
    assert render_prompt(example, HOTPOT_RETRIEVAL.orders["plain"]) == CONTEXT
    encoded = encode()
    assert bytes(encoded.prompt_ids).decode() == CONTEXT
    assert bytes(encoded.answer_ids).decode() == QUESTION
    assert example.answers == (QUESTION,)
    rows = [rank_row(0, 3), rank_row(1, 1), rank_row(2, 11), rank_row(3, 10)]
    assert pool_metrics(HOTPOT_RETRIEVAL.metrics, rows) == {
        "recall_at_1": {"value": 1 / 4, "n": 4},
        "recall_at_5": {"value": 2 / 4, "n": 4},
        "mrr_at_10": {"value": pytest.approx((1 / 3 + 1 + 0 + 1 / 10) / 4), "n": 4},
    }


def test_the_primary_metric_is_a_sum_over_questions():
    rows = [rank_row(0, 2), rank_row(1, 1)]
    add_items(HOTPOT_RETRIEVAL.metrics[HOTPOT_RETRIEVAL.primary_metric], rows)
    assert [(row["score"], row["weight"]) for row in rows] == [(0.0, 1), (1.0, 1)]


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        (recall_at(1), (1.0, 0.0, 0.0)),
        (recall_at(2), (1.0, 1.0, 0.0)),
        (reciprocal_rank_at(2), (1.0, 0.5, 0.0)),
    ],
)
def test_depths_are_inclusive(metric, scores):
    for rank, score in zip((1, 2, 3), scores, strict=True):
        assert metric.pool([rank_row(0, rank)]) == Pooled(score, 1)
    assert metric.pool([]) is None


def test_context_and_question_have_a_limit_each():
    assert len(encode(max_length=len(CONTEXT), max_answer=len(QUESTION)).prompt_ids) == len(CONTEXT)
    cut = encode(max_length=100)
    assert cut.is_cut
    assert not cut.lost_gold
    assert len(cut.prompt_ids) <= 100
    assert len(cut.answer_ids) == len(QUESTION)
    with pytest.raises(RowProblem, match="answer longer than 58 tokens"):
        encode(max_answer=58)


def test_rows_of_hotpot_are_refused_for_the_same_reasons():
    row = make_row(7, supporting_facts={"title": ["Alpha7"], "sent_id": [9]})
    with pytest.raises(RowProblem, match="supporting sentence missing"):
        build_example(row, PlainBuild(order="plain"))


def test_mini_data_has_the_chance_as_its_constant_and_no_copy():
    assert HOTPOT_RETRIEVAL.objective is Objective.retrieval
    assert resolve_order("hotpot_retrieval", "plain") == "plain"
    config = task_config(name="hotpot_retrieval", order="plain", max_answer_tokens=64)
    loaded = load_task_data(config, data_config(), Bytes())
    assert [len(loaded.splits[split]) for split in ("train", "validation")] == [20, 10]
    assert loaded.constant_baseline == pytest.approx(
        {"recall_at_1": 0.1, "recall_at_5": 0.5, "mrr_at_10": sum(1 / n for n in range(1, 11)) / 10}
    )
    assert loaded.copy_baseline == {}
    questions = [bytes(e.answer_ids).decode() for e in loaded.splits["validation"]]
    assert all(question.endswith("?") for question in questions)
    report = loaded.preflight.splits["validation"]
    assert report.answer_tokens["max"] == max(map(len, questions))
