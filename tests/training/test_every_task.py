"""Every task in every order, from generated rows to records whose numbers can be recomputed."""

import pytest

from fseed.records import read_run
from fseed.sandbox.isolation import isolation_level
from fseed.tasks.registry import TASKS
from fseed.tasks.scoring import pool_metrics
from fseed.training.runner import train_run
from tests.configs import compose
from tests.training.build import plan, tiny_config

CASES = [(name, order) for name, task in TASKS.items() for order in task.orders]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order"), CASES)
def test_a_run_ends_in_records_that_recompute(tmp_path, name, order):
    task = TASKS[name]
    if task.executes_code and isolation_level() == "none":
        pytest.skip("no isolation works here")
    options = compose(f"task={name}").config.task
    config = tiny_config(
        f"task={name}",
        budget__steps=2,
        budget__generate=True,
        budget__generate_first=True,
        # the lengths of the option file, not those of the tiny hotpot
        task__max_answer_tokens=options.max_answer_tokens,
        task__max_length_tokens=options.max_length_tokens,
        task__order=order,
        data__num_validation=5,
    )
    assert train_run(plan(config, tmp_path)).status == "finished"

    record = read_run(tmp_path)
    assert record.result is not None
    rows = record.predictions().to_pylist()
    assert set(record.result["constant_baseline"]) & {task.primary_metric}
    for entry in record.result["evaluations"]:
        found = [row for row in rows if row["step"] == entry["step"]]
        assert len(found) == 5
        score = sum(row["score"] for row in found) / sum(row["weight"] for row in found)
        assert entry["metrics"][task.primary_metric]["value"] == pytest.approx(score)
        assert pool_metrics(task.metrics, found) == entry["metrics"]
        missing = set(task.metrics) - set(entry["metrics"])
        assert all("sampled" in name or name in UNDEFINED for name in missing)


# of so few or so uniform examples
UNDEFINED = {"auroc", "precision", "casing_accuracy", "balanced_accuracy"}
