from dataclasses import replace
from typing import Any

import pytest

from fseed.results.collection import Collection
from fseed.results.comparison import Comparison
from fseed.results.html.figures.forest import ForestRow
from fseed.results.html.headlines import build_headline, lead_number, split_settings
from fseed.results.html.view import TableView, TaskView, build_tasks


@pytest.fixture(scope="module")
def template(report: Collection) -> Comparison:
    return next(row for row in report.comparisons if row.arm == "scalar_l6")


def task_of(template: Comparison, *rows: dict[str, Any], stage: str = "confirm") -> TaskView:
    told = [
        ForestRow(replace(template, **{"stage": stage, "arm": f"arm{index}", **row}))
        for index, row in enumerate(rows)
    ]
    table = TableView("caption", told, {})
    return TaskView(template.task, template.source, template.model, [table])


UNMEASURED = {"difference": None, "interval_low": None, "interval_high": None}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"verdict": "helps"}], "arm0 helps."),
        (
            [
                {"verdict": "helps", "difference": 0.01},
                {"verdict": "helps", "difference": 0.03},
                {"verdict": "hurts", "difference": -0.2},
            ],
            "2 of 3 arms help, arm1 most.",
        ),
        (
            [{"verdict": "hurts", "difference": -0.1}, {"verdict": "inconclusive"}],
            "No arm helps; arm0 hurts.",
        ),
        (
            [
                {"verdict": "hurts", "difference": -0.1},
                {"verdict": "hurts", "difference": -0.2},
            ],
            "No arm helps; 2 of 2 arms hurt, arm1 most.",
        ),
        (
            [{"verdict": "equivalent", "equivalence_margin": 0.01}],
            "No arm helps; arm0 is equivalent to plain training within ±1.00 pp.",
        ),
        ([{"verdict": "no_op"}], "No arm helps; arm0 equals plain training in every prediction."),
        (
            [{"verdict": "inconclusive"}],
            "Not decided: arm0 cannot be told from plain training.",
        ),
        (
            [{"verdict": "inconclusive"}, {"verdict": "inconclusive"}],
            "Not decided: no arm can be told from plain training.",
        ),
        (
            [{"verdict": "failed", **UNMEASURED}, {"verdict": "unfinished", **UNMEASURED}],
            "Nothing measured: 1 failed, 1 unfinished.",
        ),
        ([{"verdict": "pruned"}], "Nothing confirmed: arm0 was dropped by the search."),
        (
            [{"verdict": "pruned"}, {"verdict": "pruned"}],
            "Nothing confirmed: every arm was dropped by the search.",
        ),
        (
            [{"verdict": "pruned"}, {"verdict": "failed", **UNMEASURED}],
            "No arm has a number that can be used.",
        ),
    ],
)
def test_verdicts_in_words(template: Comparison, rows: list[dict[str, Any]], sentence: str) -> None:
    assert build_headline(task_of(template, *rows)).sentence == sentence


def test_a_control_is_never_the_headline(template: Comparison) -> None:
    control = {"control": "repeat_prompt", "verdict": "helps", "difference": 0.5}
    headline = build_headline(task_of(template, {"verdict": "inconclusive"}, control))
    assert headline.lead is not None
    assert headline.lead.arm == "arm0"
    assert headline.verdict == "inconclusive"


def test_the_numbers_are_those_of_the_arm_named(template: Comparison) -> None:
    rows = [{"verdict": "helps", "difference": 0.01}, {"verdict": "helps", "difference": 0.03}]
    headline = build_headline(task_of(template, *rows))
    assert headline.lead is not None
    assert lead_number(headline.lead) == "+3.00 pp"
    facts = "; ".join(headline.facts)
    assert "5 pairs of runs (seeds 30-34)" in facts
    assert "60 examples of the validation split" in facts
    assert "adjusted p" in facts


@pytest.mark.parametrize(
    ("changes", "stage", "told"),
    [
        ({}, "quick", "Stage quick: not confirmed on fresh seeds."),
        ({"source": "mini"}, "confirm", "nothing about the real hotpot data"),
        ({"split": "validation"}, "confirm", "the test split was not touched"),
        ({"num_pairs": 3}, "confirm", "Only 3 pairs of runs"),
        ({"verdict": "helps"}, "confirm", "No control ran beside this arm"),
        (
            {"verdict": "inconclusive", "detectable_difference": 0.05},
            "confirm",
            "Differences below 5.00 pp would mostly be missed",
        ),
        (
            {"beats_constant": False, "constant_value": 0.4},
            "confirm",
            "Not above the best constant answer (40.00 %)",
        ),
    ],
)
def test_what_it_does_not_show(
    template: Comparison, changes: dict[str, Any], stage: str, told: str
) -> None:
    plain = {
        **{"source": "hub", "split": "test", "num_pairs": 5, "verdict": "hurts"},
        **{"beats_constant": True},
    }
    assert build_headline(task_of(template, plain)).limits == []
    limits = build_headline(task_of(template, {**plain, **changes}, stage=stage)).limits
    assert [limit for limit in limits if told in limit] == limits


def test_picking_one_of_several_arms_is_told(template: Comparison) -> None:
    told = "picked among 2 measured ones"
    rows: list[dict[str, Any]] = [{"verdict": "helps"}, {"verdict": "inconclusive"}]
    assert told in " ".join(build_headline(task_of(template, *rows)).limits)
    rows[1] |= UNMEASURED
    assert told not in " ".join(build_headline(task_of(template, *rows)).limits)


def test_a_measured_control_is_acknowledged(template: Comparison) -> None:
    control = {"control": "shuffled_state", "control_of": "arm0", "verdict": "inconclusive"}
    told = "No control ran"
    rows: list[dict[str, Any]] = [{"verdict": "helps"}, control]
    assert told not in " ".join(build_headline(task_of(template, *rows)).limits)
    rows[1] = {**control, **UNMEASURED}
    assert told in " ".join(build_headline(task_of(template, *rows)).limits)
    rows[1] = {**control, "control": "aa"}
    assert told in " ".join(build_headline(task_of(template, *rows)).limits)


def test_the_last_stage_with_a_number_speaks(staged: Collection) -> None:
    (task,) = build_tasks(staged)
    headline = build_headline(task)
    assert headline.lead is not None
    assert headline.lead.stage == "confirm"
    assert any("3 arms entered in all" in limit for limit in headline.limits)
    assert any("backbone starts at random" in limit for limit in headline.limits)
    # without a number at confirm the stage before it speaks
    lost = [ForestRow(replace(row.comparison, **UNMEASURED)) for row in task.tables[0].rows]
    tables = [replace(task.tables[0], rows=lost), *task.tables[1:]]
    headline = build_headline(replace(task, tables=tables))
    assert headline.lead is not None
    assert headline.lead.stage == "medium"


def test_every_setting_of_the_last_stage_has_its_answer(template: Comparison) -> None:
    """Two orders of a task: an answer of the first alone would hide what the second shows."""
    first = task_of(template, {"verdict": "inconclusive", "setting": "task.order=a"})
    second = task_of(template, {"verdict": "helps", "setting": "task.order=b"})
    failed = task_of(template, {"verdict": "failed", "setting": "task.order=c", **UNMEASURED})
    quick = task_of(template, {"verdict": "hurts"}, stage="quick")
    tables = [table for one in (first, second, failed, quick) for table in one.tables]
    parts = split_settings(replace(first, tables=tables))
    assert [build_headline(part).verdict for part in parts] == ["inconclusive", "helps", "failed"]
    assert [len(part.tables) for part in parts] == [2, 2, 1]
    assert split_settings(failed) == [failed]
