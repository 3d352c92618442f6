"""``budget.test``: the test split is scored once, after the last step, whatever happens."""

from pathlib import Path

import pytest

from fseed.models.tokenizer import ByteTokenizer
from fseed.records import read_metrics, read_run
from fseed.results.runs import load_run
from fseed.tasks.baselines import constant_baseline
from fseed.tasks.registry import get_task, load_task_data
from fseed.training import attempt as attempt_module
from fseed.training.evaluation import Evaluator
from fseed.training.run_log import RunLog
from tests.training.build import tiny_config
from tests.training.test_runner import Killed, predictions, stable_rows, train

WITH_TEST = {"budget__test": True, "data__num_test": 5}


def evaluations(run_dir: Path) -> list[tuple[int, str]]:
    rows, _ = read_metrics(run_dir / "metrics.jsonl")
    return [(row["step"], row["split"]) for row in rows if row["kind"] == "evaluation"]


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Collect the split of every evaluation that is really done."""
    splits, original = [], Evaluator.evaluate

    def evaluate(self, **kwargs):
        splits.append(self.split)
        return original(self, **kwargs)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return splits


def test_the_test_split_is_scored_once_after_the_last_step(tmp_path, scored):
    outcome = train(tmp_path, **WITH_TEST, budget__eval_every_steps=4, budget__generate=True)
    assert outcome.status == "finished"
    assert scored == ["validation", "validation", "validation", "test"]
    result = read_run(tmp_path).result
    assert result is not None
    told = [(entry["step"], entry["split"]) for entry in result["evaluations"]]
    assert told == [(0, "validation"), (4, "validation"), (6, "validation"), (6, "test")]
    rows = [row for row in predictions(tmp_path) if row["split"] == "test"]
    assert len({row["example_id"] for row in rows}) == len(rows) == 5
    assert {row["step"] for row in rows} == {6}
    assert all(row["prediction"] is not None for row in rows)
    test = result["evaluations"][-1]["metrics"]["token_accuracy"]
    assert test["value"] == sum(r["num_correct"] for r in rows) / sum(r["num_units"] for r in rows)
    assert read_run(tmp_path).provenance["data"]["counts"]["test"] == 5


def test_readers_judge_such_a_run_by_the_test_split(tmp_path):
    train(tmp_path, **WITH_TEST)
    run = load_run(read_run(tmp_path))
    assert (run.status, run.split, run.counts["loss"]) == ("finished", "test", run.counts["loss"])
    assert run.examples is not None
    assert len(run.examples.scores) == 5


def test_its_baselines_are_those_of_the_test_split(tmp_path):
    values = WITH_TEST | {"budget__steps": 1, "task__max_answer_tokens": 16}
    train(tmp_path / "test", "task=rightcopy", **values)
    train(tmp_path / "plain", "task=rightcopy", **(values | {"budget__test": False}))
    config = tiny_config("task=rightcopy", **values)
    tokenizer = ByteTokenizer()
    splits = ("train", "validation", "test")
    data = load_task_data(config.task, config.data, tokenizer, splits=splits)
    results = [read_run(tmp_path / name).result for name in ("test", "plain")]
    for result, split in zip(results, ("test", "validation"), strict=True):
        assert result is not None
        found = constant_baseline(
            get_task("rightcopy"), data.splits["train"], data.splits[split],
            tokenizer=tokenizer, scoring=config.mbpp,
        )  # fmt: skip
        assert result["constant_baseline"] == found
    assert results[0]["constant_baseline"] != results[1]["constant_baseline"]


def test_a_plain_run_never_reads_a_test_row(tmp_path, scored):
    train(tmp_path, data__num_test=5)
    assert set(scored) == {"validation"}
    assert {row["split"] for row in predictions(tmp_path)} == {"validation"}
    assert set(read_run(tmp_path).provenance["data"]["counts"]) == {"train", "validation"}


def test_training_and_validation_are_those_of_the_same_run_without_test(tmp_path):
    train(tmp_path / "with", **WITH_TEST)
    train(tmp_path / "without", data__num_test=5)
    with_test = [row for row in stable_rows(tmp_path / "with") if row.get("split") != "test"]
    assert with_test == stable_rows(tmp_path / "without")


def killing(moment: str, monkeypatch) -> None:
    """Die where nothing can catch it, between the last step and the result."""

    def die(*args, **kwargs):
        raise Killed

    if moment == "before scoring":
        monkeypatch.setattr(attempt_module.Attempt, "_score_test", die)
    if moment == "before the result":
        monkeypatch.setattr(attempt_module, "write_result", die)
    original = RunLog.add_row

    def add_row(self, row):
        if row.get("split") == "test":
            raise Killed
        original(self, row)

    if moment == "predictions written":
        monkeypatch.setattr(RunLog, "add_row", add_row)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("before scoring", marks=pytest.mark.slow),
        "predictions written",
        pytest.param("before the result", marks=pytest.mark.slow),
    ],
)
def test_a_kill_behind_the_last_step_repeats_and_changes_nothing(
    tmp_path, monkeypatch, scored, moment
):
    train(tmp_path / "whole", **WITH_TEST)
    with monkeypatch.context() as patch:
        killing(moment, patch)
        with pytest.raises(Killed):
            train(tmp_path / "killed", **WITH_TEST)
    scored.clear()
    assert read_run(tmp_path / "killed").status == "unfinished"
    assert train(tmp_path / "killed", **WITH_TEST).status == "finished"
    # what is on disk is not scored again
    assert scored == ([] if moment == "before the result" else ["test"])
    assert stable_rows(tmp_path / "killed") == stable_rows(tmp_path / "whole")
    assert predictions(tmp_path / "killed") == predictions(tmp_path / "whole")
    assert evaluations(tmp_path / "killed").count((6, "test")) == 1
    results = [read_run(tmp_path / name).result for name in ("whole", "killed")]
    assert results[0] is not None
    assert results[1] is not None
    assert results[0]["evaluations"] == results[1]["evaluations"]


def test_a_stop_while_the_test_split_is_scored_is_an_interruption(tmp_path, monkeypatch):
    original = attempt_module.Attempt._before_evaluation_batch
    batches = []

    def before_batch(self, batch, num_batches):
        batches.append(batch)
        # two batches of validation before the first step, two after the last one
        if len(batches) == 5:
            self.flag.requested = True
        original(self, batch, num_batches)

    with monkeypatch.context() as patch:
        patch.setattr(attempt_module.Attempt, "_before_evaluation_batch", before_batch)
        assert train(tmp_path, **WITH_TEST).status == "interrupted"
    assert evaluations(tmp_path) == [(0, "validation"), (6, "validation")]
    assert train(tmp_path, **WITH_TEST).status == "finished"
    assert evaluations(tmp_path)[-1] == (6, "test")
