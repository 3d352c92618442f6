import subprocess
import sys

import pytest
from task_helpers import data_config, task_config

from fseed.errors import UserError
from fseed.tasks.registry import TASKS, check_data, data_fingerprint, get_task, resolve_order


def test_every_task_is_complete():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.primary_metric in task.metrics
        assert set(task.generation_metrics) <= set(task.metrics)
        assert set(task.order_aliases.values()) <= set(task.orders)
        assert all(sentence.endswith(".") for sentence in task.metrics.values())


def test_unknown_task_offers_near_names():
    assert get_task("hotpot") is TASKS["hotpot"]
    with pytest.raises(UserError, match=r"task hotpott: unknown; did you mean hotpot\?"):
        get_task("hotpott")
    with pytest.raises(UserError, match="tasks: hotpot"):
        data_fingerprint(task_config(name="chess"), data_config())


@pytest.mark.parametrize(
    ("order", "canonical"),
    [
        ("question_last", "question_last"),
        ("q_after", "question_last"),
        ("evidence_last", "evidence_last"),
        ("q_first", "evidence_last"),
    ],
)
def test_orders_and_aliases(order, canonical):
    assert resolve_order("hotpot", order) == canonical


def test_unknown_order_lists_the_allowed_ones():
    with pytest.raises(UserError) as caught:
        check_data(task_config(order="question_lst"), data_config())
    message = str(caught.value)
    assert "task.order=question_lst: unknown for hotpot; did you mean question_last" in message
    assert "Orders: question_last, evidence_last (also q_after, q_first)" in message


def test_import_and_checks_stay_light():
    code = """
import sys
from fseed.config.schema import DataConfig, SourceKind, TaskConfig
from fseed.tasks.registry import check_data, data_fingerprint
heavy = {"torch", "hydra", "lightning", "datasets", "pyarrow", "pandas", "transformers"}
task = TaskConfig("hotpot", "question_last", 320, 48)
data = DataConfig(SourceKind.mini, None, 20, 10, 5)
check_data(task, data)
data_fingerprint(task, data)
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
