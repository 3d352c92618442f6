from dataclasses import replace

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.view import build_tasks, order_rows, stage_rank
from tests.results.html.builders import root_of


def test_every_row_is_shown_once(report: Collection, staged: Collection) -> None:
    collection = collect_runs([root_of(report), root_of(staged)])
    tasks = build_tasks(collection)
    assert [task.task for task in tasks] == ["hotpot", "kvsort"]
    assert [table.stage for table in tasks[0].tables] == ["confirm", "medium", "quick", "plain"]
    shown = [row.comparison for task in tasks for table in task.tables for row in table.rows]
    assert len(shown) == len(collection.comparisons)
    assert all(row in shown for row in collection.comparisons)
    for task in tasks:
        for table in task.tables:
            assert set(table.arms) == {row.comparison.arm for row in table.rows}


def test_seed_differences_average_to_the_row(report: Collection) -> None:
    tasks = build_tasks(report)
    rows = tasks[0].tables[0].rows
    measured = [row for row in rows if row.comparison.difference is not None]
    assert measured
    for row in measured:
        values = [difference for _, difference in row.seed_differences]
        assert [seed for seed, _ in row.seed_differences] == list(range(30, 35))
        assert sum(values) / len(values) == pytest.approx(row.comparison.difference)
    assert [row.seed_differences for row in rows if row.comparison.difference is None] == [()]


def test_rows_by_difference_controls_beneath_missing_last(report: Collection) -> None:
    rows = report.comparisons
    template = next(row for row in rows if row.arm == "scalar_l6")
    named = [
        replace(template, arm="small", difference=0.01),
        replace(template, arm="lost", difference=None),
        replace(template, arm="large", difference=0.05),
        replace(template, arm="c1", control="shuffled_state", control_of="small", difference=0.2),
        replace(template, arm="c2", control="repeat_prompt", control_of=None, difference=0.3),
        replace(template, arm="c3", control="aa", control_of="elsewhere", difference=None),
    ]
    ordered = [(row.arm, is_beneath) for row, is_beneath in order_rows(named)]
    plain = [("large", False), ("small", False), ("c1", True), ("lost", False)]
    assert ordered == [*plain, ("c2", False), ("c3", False)]


def test_unknown_stages_come_last() -> None:
    stages = ["zeta", "plain", "alpha", "confirm", "quick", "medium"]
    expected = ["confirm", "medium", "quick", "plain", "alpha", "zeta"]
    assert sorted(stages, key=stage_rank) == expected
