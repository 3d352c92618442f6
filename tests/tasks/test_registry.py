import subprocess
import sys
from itertools import islice

import pytest
from task_helpers import data_config, task_config

from fseed.config.schema import MbppConfig, SourceKind
from fseed.errors import UserError
from fseed.tasks.base import Objective, Setting
from fseed.tasks.columns import matches_value
from fseed.tasks.options import parse_options
from fseed.tasks.registry import (
    TASKS,
    build_request,
    check_data,
    data_fingerprint,
    get_task,
    resolve_options,
    resolve_order,
    task_notes,
)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_complete(name):
    task = TASKS[name]
    assert task.name == name
    assert task.primary_metric in task.metrics
    assert task.summary.endswith(".")
    assert all(metric.sentence.endswith(".") for metric in task.metrics.values())
    assert task.orders
    assert set(task.order_aliases.values()) <= set(task.orders)
    assert not set(task.order_aliases) & set(task.orders)
    assert len({frozenset(sections) for sections in task.orders.values()}) == 1


@pytest.mark.parametrize("name", TASKS)
def test_the_primary_metric_is_a_sum_over_examples(name):
    """Arms are compared example by example on it."""
    task = TASKS[name]
    assert task.metrics[task.primary_metric].items is not None


@pytest.mark.parametrize("name", TASKS)
def test_free_decoding_and_its_columns_belong_together(name):
    task = TASKS[name]
    needs = {metric.is_generated for metric in task.metrics.values()}
    if task.score_generation is None:
        assert task.generation_columns == ()
        assert needs == {False}
    else:
        assert task.objective is Objective.answer
        assert task.generation_columns
        assert True in needs
        assert task.score_generation([], [], MbppConfig()) == []


@pytest.mark.parametrize("name", TASKS)
def test_default_options_are_accepted_and_change_nothing(name):
    task = TASKS[name]
    defaults = resolve_options(task_config(name=name))
    assert parse_options(task, defaults) == task.options()
    with pytest.raises(UserError, match=r"task\.options\.no_such_option=1: unknown for "):
        resolve_options(task_config(name=name, options={"no_such_option": 1}))


@pytest.mark.parametrize("name", TASKS)
def test_data_sets_say_where_every_split_is(name):
    for dataset in TASKS[name].datasets.values():
        assert set(dataset.required) <= set(dataset.files)
        assert all(stems for stems in dataset.files.values())
        heads = {path.partition(".")[0] for path in dataset.key_columns}
        assert heads <= set(dataset.columns)
        if dataset.hub_id is not None:
            assert set(dataset.required) <= set(dataset.hub_splits)


@pytest.mark.parametrize("name", TASKS)
def test_generated_rows_are_of_the_schema_and_readable(name):
    task = TASKS[name]
    columns = next(iter(task.datasets.values())).columns
    for order in task.orders:
        setting = Setting(split="train", order=order, options=task.options(), seed=0)
        rows = list(islice(task.generate_mini(setting), 5))
        assert all(matches_value(row, columns) for row in rows)
        assert len({task.read_key(row).row_id for row in rows}) == 5


def test_unknown_task_offers_near_names():
    assert get_task("hotpot") is TASKS["hotpot"]
    with pytest.raises(UserError, match=r"task hotpott: unknown; did you mean hotpot\b"):
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


def test_a_request_holds_the_canonical_order_and_the_option_object():
    request = build_request(task_config(order="q_first"), data_config(), splits=("test",))
    assert request.order == "evidence_last"
    assert request.options == TASKS["hotpot"].options()
    setting = request.setting("test")
    assert (setting.split, setting.order, setting.seed) == ("test", "evidence_last", 0)


@pytest.mark.parametrize("source", SourceKind)
def test_a_misspelt_option_is_refused_before_any_data_is_read(source):
    config = task_config(options={"num_note": 3})
    for call in (check_data, data_fingerprint):
        with pytest.raises(UserError) as caught:
            call(config, data_config(source, root="/nowhere"))
        assert str(caught.value).startswith("task.options.num_note=3: unknown for hotpot\n")


def test_only_a_frozen_backbone_without_weights_is_remarked_on():
    (note,) = task_notes("hotpot_retrieval", has_weights=False)
    assert note.startswith("hotpot_retrieval freezes the backbone")
    assert task_notes("hotpot_retrieval", has_weights=True) == []
    assert task_notes("hotpot", has_weights=False) == []


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
