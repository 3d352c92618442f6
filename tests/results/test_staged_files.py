import json
from pathlib import Path
from typing import Any

import pytest

from fseed.records import RecordError
from fseed.results.staged_files import read_decisions, read_plan
from tests.results.staged import (
    SEEDS,
    decision_content,
    plan_arm,
    plan_content,
    write_decisions,
    write_plan,
)

ARMS = [
    plan_arm("scalar_l10", "a1"),
    plan_arm("scalar_l10,control=aa", "a2", control="aa", control_of="scalar_l10"),
]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_plan(tmp_path, ARMS)
    plan = read_plan(tmp_path)
    assert plan is not None
    assert (plan.path, plan.sweep, plan.rule, plan.tasks) == (path, "default", "race", ("hotpot",))
    assert plan.rules["wanted_gain"] == 0.01
    assert [(arm.label, arm.control_of) for arm in plan.arms] == [
        ("scalar_l10", None),
        ("scalar_l10,control=aa", "scalar_l10"),
    ]
    assert {stage.name: list(stage.seeds) for stage in plan.stages} == SEEDS
    assert plan.stages[2].rungs == (5,)


def test_decisions_are_read_in_order_with_their_line(tmp_path: Path) -> None:
    first = decision_content("scalar_l10", "a1", state="passed", reason="above_zero")
    path = write_decisions(tmp_path, [first, decision_content("head_l10", "a3")])
    found = read_decisions(tmp_path)
    assert [(one.line, one.arm, one.state) for one in found] == [
        (1, "scalar_l10", "passed"),
        (2, "head_l10", "dropped"),
    ]
    assert found[0].path == path
    assert found[0].difference == pytest.approx(-0.02)
    assert [(one.seed, one.difference) for one in found[0].inputs] == [
        *((0, -0.01), (1, -0.02), (2, -0.03))
    ]


def test_without_files_there_is_no_plan_and_no_decision(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    assert read_decisions(tmp_path) == []


def test_a_last_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = write_decisions(tmp_path, [decision_content("a", "a1"), decision_content("b", "b1")])
    path.write_bytes(path.read_bytes()[:-20])
    assert [one.arm for one in read_decisions(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 7}, "unknown schema version 7; this fseed reads version 1"),
        ({"state": "kept"}, "state is 'kept', not one of passed, dropped, continues"),
        ({"rung": True}, "rung is True, not int"),
        ({"numbers": {"difference": 0.1}}, "lacks "),
        ({"inputs": [3]}, "'int' object"),
        ({"text": None}, "text is None, not str"),
        ({"numbers": {"difference": 10**400}}, "int too large"),
    ],
)
def test_a_bad_line_is_named_with_its_number(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    bad = decision_content("b", "b1") | change
    path = write_decisions(tmp_path, [decision_content("a", "a1"), bad])
    with pytest.raises(RecordError) as caught:
        read_decisions(tmp_path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert told in str(caught.value)


def test_a_torn_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = write_decisions(tmp_path, [decision_content("a", "a1")])
    path.write_text('{"task": \n' + path.read_text())
    with pytest.raises(RecordError, match=f"{path}:1: "):
        read_decisions(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "plan.json: Expecting"),
        ("[]", "plan.json: holds no mapping"),
        (json.dumps(plan_content(ARMS) | {"rule": "best"}), "rule is 'best', not one of race"),
        (json.dumps({"schema_version": 1}), "plan.json: lacks sweep"),
        (json.dumps(plan_content([{"label": "x"}])), "plan.json: lacks arm_key"),
        (json.dumps(plan_content(ARMS) | {"stages": [{"seeds": ["x"], "rungs": []}]}), "seeds is"),
    ],
)
def test_a_bad_plan_is_named_with_its_path(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RecordError, match=told):
        read_plan(tmp_path)
