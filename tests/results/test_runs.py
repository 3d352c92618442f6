import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from fseed.records import read_run, write_json_atomic
from fseed.results.examples import constant_answer
from fseed.results.runs import Run, config_leaves, load_run, tidy_row
from tests.results.builders import RunSpec, fail_run, finish_run, start_run

SPEC = RunSpec(correct=(2, 0, 1, 3), units=(2, 2, 2, 4), loss=1.25)


def load(path: Path) -> Run:
    return load_run(read_run(path))


def change_result(path: Path, **changes: Any) -> None:
    result = json.loads((path / "result.json").read_text())
    write_json_atomic(path / "result.json", {**result, **changes})


def test_a_finished_run_becomes_a_row(tmp_path: Path) -> None:
    run = load(finish_run(tmp_path, SPEC))
    assert run.status == "finished"
    assert run.labels == ("hotpot", "mini", "nano", "plain")
    assert (run.arm, run.seed, run.is_baseline) == ("no_fs", 0, True)
    assert run.last == {"token_accuracy": 0.6, "loss": 1.25}
    assert run.first == {"token_accuracy": 0.0, "loss": 5.5}
    assert run.counts == {"token_accuracy": 10, "loss": 10}
    assert run.examples is not None
    assert run.examples.scores.tolist() == [2, 0, 1, 3]


def test_examples_are_ordered_by_id(tmp_path: Path) -> None:
    spec = RunSpec(ids=("d", "a", "c", "b"), correct=(0, 1, 1, 0))
    run = load(finish_run(tmp_path, spec))
    assert run.examples is not None
    assert run.examples.scores.tolist() == [1, 0, 1, 0]


def test_content_tells_one_bit_of_loss_and_one_letter(tmp_path: Path) -> None:
    texts = ("a", "b", "c", "d")
    specs = [
        RunSpec(predictions=texts),
        RunSpec(predictions=texts, seed=1),
        RunSpec(predictions=texts, seed=2, loss=math.nextafter(1.0, 2.0)),
        RunSpec(predictions=("a", "b", "c", "e"), seed=3),
    ]
    runs = [load(finish_run(tmp_path, spec)) for spec in specs]
    contents = [run.examples.content for run in runs if run.examples is not None]
    assert contents[0] == contents[1]
    assert len(set(contents)) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["token_accuracy", "loss", "f1"])
def test_a_score_that_is_not_finite_makes_a_run_invalid(
    tmp_path: Path, name: str, value: float
) -> None:
    run = load(finish_run(tmp_path, SPEC.with_(scores={name: value})))
    assert run.status == "invalid"
    assert run.reason == f"{name} is {value} after the last step"
    assert run.last == {}


def test_scores_are_recomputed_from_predictions(tmp_path: Path) -> None:
    run = load(finish_run(tmp_path, SPEC.with_(scores={"token_accuracy": 0.61})))
    assert run.status == "invalid"
    assert run.reason == "token_accuracy is 0.610000 in result.json, 0.600000 from predictions"


def test_an_evaluation_after_the_last_step_is_required(tmp_path: Path) -> None:
    path = finish_run(tmp_path, SPEC)
    change_result(path, steps=41)
    assert load(path).reason == "no evaluation after the last step (41)"


def test_the_test_split_counts_where_it_was_scored(tmp_path: Path) -> None:
    path = finish_run(tmp_path, SPEC)
    result = json.loads((path / "result.json").read_text())
    extra = {**result["evaluations"][-1], "split": "test"}
    change_result(path, evaluations=[*result["evaluations"], extra])
    assert load(path).reason == "predictions.parquet: no rows for test at step 40"


def test_missing_predictions_make_a_run_invalid(tmp_path: Path) -> None:
    path = finish_run(tmp_path, SPEC)
    (path / "predictions.parquet").unlink()
    run = load(path)
    assert (run.status, run.reason) == ("invalid", "predictions.parquet is missing")


def test_an_example_may_occur_once_only(tmp_path: Path) -> None:
    run = load(finish_run(tmp_path, SPEC.with_(ids=("a", "a", "b", "c"))))
    assert run.status == "invalid"
    assert "an example occurs twice" in str(run.reason)


def test_a_missing_metric_stays_missing(tmp_path: Path) -> None:
    path = finish_run(tmp_path, SPEC)
    result = json.loads((path / "result.json").read_text())
    result["evaluations"][-1]["metrics"]["f1"] = {"value": None, "n": 0}
    change_result(path, evaluations=result["evaluations"])
    run = load(path)
    assert run.status == "finished"
    assert "f1" not in run.last


def test_constant_answers_are_noticed(tmp_path: Path) -> None:
    run = load(finish_run(tmp_path, SPEC.with_(predictions=["yes"] * 4)))
    assert run.examples is not None
    assert run.examples.constant_answer == "yes"
    columns = {"prediction": [None, None], "predicted": ["AA", "A"]}
    assert constant_answer(columns) == "A"
    assert constant_answer(columns | {"predicted": ["AA", "B"]}) is None
    run = load(finish_run(tmp_path, SPEC.with_(seed=1, predictions=[None] * 4)))
    assert run.examples is not None
    assert run.examples.constant_answer is None


def test_a_run_without_records_is_named_by_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "sweep" / "hotpot" / "quick" / "scalar_l10" / "s-3-0123456789"
    path.mkdir(parents=True)
    run = load(path)
    assert run.labels == ("hotpot", "?", "?", "quick")
    assert (run.arm, run.seed, run.is_baseline) == ("scalar_l10", -3, False)


def test_a_seed_of_the_wrong_type_is_unreadable(tmp_path: Path) -> None:
    run = load(start_run(tmp_path, SPEC.with_(changes={"seed": "zero"})))
    assert (run.status, run.reason) == ("unreadable", "config.yaml: seed is 'zero'")


@pytest.mark.parametrize(
    "evaluations",
    [
        [3],
        [{"step": 40}],
        [{"step": 40, "split": "validation", "metrics": [1]}],
        [{"step": 40, "split": "validation", "metrics": {"token_accuracy": 0.5}}],
        [{"step": 40, "split": ["a"], "metrics": {"token_accuracy": {"value": 0.5}}}],
        [{"step": [1], "split": "validation", "metrics": {}}],
        [],
    ],
)
def test_malformed_evaluations_are_invalid_never_an_error(
    tmp_path: Path, evaluations: list[Any]
) -> None:
    path = finish_run(tmp_path, SPEC)
    change_result(path, evaluations=evaluations)
    run = load(path)
    assert run.status == "invalid"
    assert run.reason


def test_the_tidy_row_holds_every_leaf_score_and_hash(tmp_path: Path) -> None:
    row = tidy_row(load(finish_run(tmp_path, SPEC)))
    assert row["optim.lr"] == 3e-4
    assert row["data.root"] is None
    assert (row["last.token_accuracy"], row["step0.loss"], row["n.loss"]) == (0.6, 5.5, 10)
    assert row["data_hash"] == "d" * 64
    assert row["spent.tokens"] == 163_840
    failed = tidy_row(load(fail_run(tmp_path, SPEC.with_(seed=1))))
    assert (failed["status"], failed["reason"]) == ("failed", "oom: no memory")
    assert failed["seed"] == 1


def test_config_leaves_are_dotted() -> None:
    assert dict(config_leaves({"a": {"b": {"c": 1}}, "d": [2]})) == {"a.b.c": 1, "d": [2]}


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e200])
def test_scores_beyond_what_can_be_squared_make_a_run_invalid(tmp_path: Path, value: float) -> None:
    path = finish_run(tmp_path, SPEC)
    result = json.loads((path / "result.json").read_text())
    result["evaluations"][-1]["metrics"]["loss"]["value"] = value
    change_result(path, evaluations=result["evaluations"])
    run = load(path)
    assert run.status == "invalid"
    assert str(run.reason).startswith("loss is ")


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_a_count_that_is_no_number_is_left_out(tmp_path: Path, value: float) -> None:
    path = finish_run(tmp_path, SPEC)
    result = json.loads((path / "result.json").read_text())
    result["evaluations"][-1]["metrics"]["loss"]["n"] = value
    (path / "result.json").write_text(json.dumps(result))
    run = load(path)
    assert (run.status, run.counts) == ("finished", {"token_accuracy": 10})


def test_predictions_too_large_to_add_up_are_invalid_without_a_warning(tmp_path: Path) -> None:
    path = finish_run(tmp_path, SPEC)
    table = parquet.read_table(path / "predictions.parquet")
    place = table.column_names.index("weight")
    huge = pyarrow.array([1e308] * len(table))
    parquet.write_table(table.set_column(place, "weight", huge), path / "predictions.parquet")
    assert load(path).status == "invalid"
