import contextlib
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fseed.config.schema import MbppConfig
from fseed.models.captured_decode import CapturedDecoder
from fseed.models.shape import RWKV7Shape
from fseed.models.tokenizer import ByteTokenizer
from fseed.tasks.base import EncodedExample, Task
from fseed.tasks.fills import RIGHTCOPY
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.hotpot_retrieval import HOTPOT_RETRIEVAL
from fseed.tasks.metrics import FULL_VOCABULARY_ACCURACY, UNIT_ACCURACY
from fseed.training.batches import collate
from fseed.training.evaluation import Evaluator
from fseed.training.objectives import Learner
from tests.models.build import build_future_seed, build_random_model
from tests.models.call_again import CallAgain
from tests.training.build import build_example

SHAPE = RWKV7Shape(
    num_layers=3, width=32, head_size=16, ffn_width=48, decay_rank=5, in_context_rank=6,
    value_rank=7, gate_rank=8, vocab_size=256,
)  # fmt: skip


def fill(name: str, text: str, answer: str, **facts) -> EncodedExample:
    places = tuple(place for place, character in enumerate(text) if character == "_")
    return build_example(
        name, text, answer,
        answer_ids=list(answer.encode()), mask_positions=places, has_end=False, **facts,
    )  # fmt: skip


def build_evaluator(
    task: Task, examples: list[EncodedExample], *, is_seeded: bool = True, **facts
) -> Evaluator:
    gates = build_future_seed(SHAPE, alpha_init=1.0) if is_seeded else None
    learner = Learner(build_random_model(SHAPE), gates, objective=task.objective).double()
    defaults = {
        "learner": learner,
        "task": task,
        "tokenizer": ByteTokenizer(),
        "examples": examples,
        "split": "validation",
        "batch_size": 2,
        "repeat_prompt": False,
        "max_answer_tokens": 5,
        "scoring": MbppConfig(),
        "seed": 0,
        "autocast": contextlib.nullcontext,
        "before_batch": lambda number, total: None,
    }
    return Evaluator(**(defaults | facts))


ANSWERS = [
    build_example("c", "one two", "ab"),
    build_example("a", "three", "c"),
    build_example("b", "four five six", "abc"),
]
FILLS = [
    fill("b", "ab__cd", "xy"),
    fill("c", "a_bc__d_", "wxyz"),
    fill("a", "_ab", "z"),
]
TEXTS = [
    build_example("b", "one two three", "q", answer_ids=list(b"where?"), has_end=False, units=()),
    build_example("c", "four", "q", answer_ids=list(b"who?"), has_end=False, units=()),
    build_example("a", "five six", "q", answer_ids=list(b"when is it?"), has_end=False, units=()),
]


def assert_items_reproduce(evaluation, task):
    """Assert that sum(score) / sum(weight) is the primary metric."""
    score = sum(row["score"] for row in evaluation.rows)
    weight = sum(row["weight"] for row in evaluation.rows)
    assert evaluation.values[task.primary_metric] == pytest.approx(score / weight)


def test_rows_of_a_split_are_sorted_and_say_where_they_come_from():
    evaluation = build_evaluator(HOTPOT, ANSWERS).evaluate(step=3, with_generation=False)
    assert [row["example_id"] for row in evaluation.rows] == ["a", "b", "c"]
    assert {(row["split"], row["step"]) for row in evaluation.rows} == {("validation", 3)}
    assert {row["prediction"] for row in evaluation.rows} == {None}
    assert {row["f1"] for row in evaluation.rows} == {None}
    assert set(evaluation.values) == {"token_accuracy", "end_of_text_accuracy", "loss"}
    assert evaluation.metrics["token_accuracy"]["n"] == 6
    assert_items_reproduce(evaluation, HOTPOT)


@pytest.mark.parametrize(
    ("task", "examples"), [(HOTPOT, ANSWERS), (RIGHTCOPY, FILLS), (HOTPOT_RETRIEVAL, TEXTS)]
)
def test_batch_mates_change_no_row(task, examples):
    evaluations = [
        build_evaluator(task, examples, batch_size=size).evaluate(step=0, with_generation=True)
        for size in (1, 2, 3)
    ]
    for other in evaluations[1:]:
        for one, two in zip(evaluations[0].rows, other.rows, strict=True):
            assert one["loss_sum"] == pytest.approx(two["loss_sum"], rel=1e-5)
            assert one | {"loss_sum": 0} == two | {"loss_sum": 0}


def test_evaluation_of_a_fill():
    evaluator = build_evaluator(RIGHTCOPY, FILLS)
    evaluation = evaluator.evaluate(step=0, with_generation=True)
    rows = {row["example_id"]: row for row in evaluation.rows}
    for one in FILLS:
        batch = collate([one])
        logits = evaluator.learner.model.logits(evaluator.learner.hidden(batch))[0]
        gold = torch.tensor(one.answer_ids)
        row = rows[one.example_id]
        assert row["num_units"] == row["num_tokens"] == row["num_answer_tokens"] == len(gold)
        assert row["num_correct"] == int((logits.argmax(-1) == gold).sum())
        assert row["loss_sum"] == pytest.approx(
            F.cross_entropy(logits, gold, reduction="sum").item(), rel=1e-5
        )
        assert row["end_of_text_correct"] is row["prediction"] is None
    assert_items_reproduce(evaluation, RIGHTCOPY)


def test_evaluation_of_retrieval_ranks_the_whole_split():
    evaluator = build_evaluator(HOTPOT_RETRIEVAL, TEXTS)
    evaluation = evaluator.evaluate(step=0, with_generation=True)
    with torch.no_grad():
        parts = {e.example_id: evaluator.learner.embed(collate([e])) for e in TEXTS}
    for row in evaluation.rows:
        own = parts[row["example_id"]]
        cosines = {name: float(own[0] @ part[1].T) for name, part in parts.items()}
        closer = [name for name in cosines if cosines[name] >= cosines[row["example_id"]]]
        assert row["rank"] == len(closer)
    assert set(evaluation.values) == {"recall_at_1", "recall_at_5", "mrr_at_10", "loss"}
    assert evaluation.values["recall_at_5"] == 1.0
    assert_items_reproduce(evaluation, HOTPOT_RETRIEVAL)


def test_the_loss_of_the_backbone_is_that_without_future_seed():
    seeded, plain = (build_evaluator(HOTPOT, ANSWERS, is_seeded=flag) for flag in (True, False))
    expected = plain.evaluate(step=0, with_generation=False).values["loss"]
    assert seeded.backbone_loss() == plain.backbone_loss() == pytest.approx(expected)
    found = seeded.evaluate(step=0, with_generation=False).values["loss"]
    assert found != pytest.approx(expected, rel=1e-4)


def collect_texts(**options):
    """Return a task that decodes, and the texts that it is asked to score, by example."""
    found = {}

    def score(examples, texts, scoring):
        found.update(
            {e.example_id: list(answers) for e, answers in zip(examples, texts, strict=True)}
        )
        return [{"exact_match": 1.0, "f1": 0.5} for _ in examples]

    return replace(HOTPOT, score_generation=score, **options), found


def test_generated_answers_are_scored_and_the_greedy_one_is_kept():
    task, texts = collect_texts()
    evaluation = build_evaluator(task, ANSWERS).evaluate(step=1, with_generation=True)
    assert {name: len(answers) for name, answers in texts.items()} == {"a": 1, "b": 1, "c": 1}
    for row in evaluation.rows:
        assert row["prediction"] == texts[row["example_id"]][0] == row["prediction"].strip()
        assert row["exact_match"] == 1.0
    assert evaluation.metrics["f1"] == {"value": 0.5, "n": 3}


def sampled(examples, *, batch_size=2, seed=0, num_samples=3):
    task, texts = collect_texts(executes_code=True)
    scoring = MbppConfig(num_samples=num_samples, temperature=1.0, top_p=1.0)
    build_evaluator(task, examples, batch_size=batch_size, seed=seed, scoring=scoring).evaluate(
        step=0, with_generation=True
    )
    return texts


def test_sampled_answers_depend_on_seed_and_example_alone():
    texts = sampled(ANSWERS)
    assert {name: len(answers) for name, answers in texts.items()} == {"a": 4, "b": 4, "c": 4}
    assert sampled(ANSWERS, batch_size=3) == sampled(ANSWERS, batch_size=1) == texts
    assert sampled(ANSWERS[:1]) == {"c": texts["c"]}
    fewer = sampled(ANSWERS, num_samples=1)
    assert fewer == {name: answers[:2] for name, answers in texts.items()}
    other = sampled(ANSWERS, seed=1)
    for name, answers in texts.items():
        assert len(set(answers)) == 4
        assert other[name][0] == answers[0]
        assert set(other[name][1:]).isdisjoint(answers[1:])


def test_captured_steps_change_no_row_and_serve_all_batches_of_a_size():
    built = []

    def build(model):
        built.append(CapturedDecoder(model, new_recorder=CallAgain))
        return built[-1]

    def evaluate(**options):
        task, texts = collect_texts(executes_code=True)
        scoring = MbppConfig(num_samples=2, temperature=1.0, top_p=1.0)
        evaluator = build_evaluator(task, ANSWERS, scoring=scoring, **options)
        return evaluator.evaluate(step=0, with_generation=True), texts

    assert evaluate(decoder=build) == evaluate()
    assert len(built) == 1
    evaluator = build_evaluator(HOTPOT, ANSWERS, decoder=build)
    evaluator.evaluate(step=0, with_generation=False)
    assert len(built) == 1


def test_tasks_that_run_no_code_draw_no_samples():
    task, texts = collect_texts()
    scoring = MbppConfig(num_samples=3)
    build_evaluator(task, ANSWERS, scoring=scoring).evaluate(step=0, with_generation=True)
    assert {len(answers) for answers in texts.values()} == {1}


def test_labels_reach_the_metrics():
    task = replace(
        HOTPOT,
        metrics={"accuracy": UNIT_ACCURACY, "full": FULL_VOCABULARY_ACCURACY},
        score_generation=None,
        generation_columns=(),
    )
    examples = [
        build_example(e.example_id, "p" * (3 + i), "01", label_ids=tuple(b"01"))
        for i, e in enumerate(ANSWERS)
    ]
    evaluation = build_evaluator(task, examples).evaluate(step=0, with_generation=True)
    for row in evaluation.rows:
        assert row["gold"] == "01"
        picked = "".join("1" if score > 0.5 else "0" for score in row["label_scores"])
        assert row["predicted"] == picked
        assert row["num_correct"] == sum(a == b for a, b in zip(picked, "01", strict=True))
    correct = sum(row["num_correct"] for row in evaluation.rows)
    assert evaluation.metrics["accuracy"] == {"value": correct / 6, "n": 6}


def test_a_repeated_prompt_is_read_twice():
    rows = [
        build_evaluator(HOTPOT, examples, repeat_prompt=flag)
        .evaluate(step=0, with_generation=False)
        .rows
        for examples, flag in [
            (ANSWERS, True),
            ([replace(e, prompt_ids=e.prompt_ids * 2) for e in ANSWERS], False),
        ]
    ]
    assert rows[0] == rows[1]


def test_the_batches_are_announced():
    seen = []
    build_evaluator(HOTPOT, ANSWERS, before_batch=lambda *args: seen.append(args)).evaluate(
        step=0, with_generation=False
    )
    assert seen == [(0, 2), (1, 2)]


def test_examples_without_a_score_end_the_run_and_say_why():
    def score(examples, texts, scoring):
        lost = {"outcome": "sandbox_error", "exact_match": None, "f1": None}
        return [lost, *({"exact_match": 1.0, "f1": 1.0} for _ in examples[1:])]

    metrics = {"exact_match": HOTPOT.metrics["exact_match"]}
    task = replace(HOTPOT, score_generation=score, metrics=metrics)
    evaluator = build_evaluator(task, ANSWERS)
    assert evaluator.evaluate(step=0, with_generation=False).metrics == {}
    with pytest.raises(RuntimeError, match=r"1 of 3 examples .* at step 2 \(sandbox_error\)"):
        evaluator.evaluate(step=2, with_generation=True)


@pytest.mark.parametrize(
    ("task", "examples"), [(HOTPOT, ANSWERS), (RIGHTCOPY, FILLS), (HOTPOT_RETRIEVAL, TEXTS)]
)
def test_a_loss_that_is_not_finite_ends_the_run(task, examples):
    evaluator = build_evaluator(task, examples)
    with torch.no_grad():
        evaluator.learner.model.emb.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite at step 4"):
        evaluator.evaluate(step=4, with_generation=False)


@torch.no_grad()
@pytest.mark.parametrize(("task", "examples"), [(RIGHTCOPY, FILLS), (HOTPOT_RETRIEVAL, TEXTS)])
def test_the_loss_of_the_backbone_is_that_of_the_next_prompt_token(task, examples):
    evaluator = build_evaluator(task, examples)
    total = count = 0.0
    for example in examples:
        tokens = torch.tensor([example.prompt_ids])
        logits = evaluator.learner.model.logits(evaluator.learner.model(tokens).hidden)
        losses = F.cross_entropy(logits[0, :-1].float(), tokens[0, 1:], reduction="none")
        total, count = total + float(losses.sum()), count + len(losses)
    assert evaluator.backbone_loss() == pytest.approx(total / count, rel=1e-5)
