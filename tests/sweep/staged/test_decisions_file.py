import json
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.results.staged_files import DecisionInput, read_decisions
from fseed.sweep.decisions import Rules, decide
from fseed.sweep.staged.decisions_file import DecisionLog, TakenDecision, append_lines

DIFFERENCES = [0.02, 0.03, 0.025]


def taken(arm: str = "raw_l10", *, differences: list[float] | None = None) -> TakenDecision:
    values = DIFFERENCES if differences is None else differences
    rules = Rules(rule="race", wanted_gain=0.01)
    (decision,) = decide({arm: values}, stage="quick", rung=0, num_rungs=2, rules=rules)
    pairs = [DecisionInput(seed, f"a{seed}", f"b{seed}", v) for seed, v in enumerate(values)]
    return TakenDecision("hotpot", "quick", 0, "key", decision, tuple(pairs), "race")


def loaded(folder: Path) -> DecisionLog:
    log = DecisionLog(folder)
    log.load()
    return log


def test_what_is_appended_reads_back(tmp_path: Path) -> None:
    assert loaded(tmp_path).settle([taken()]) == [taken()]
    (line,) = read_decisions(tmp_path)
    assert (line.task, line.stage, line.rung, line.arm) == ("hotpot", "quick", 0, "raw_l10")
    assert (line.state, line.reason, line.rule) == ("passed", "above_zero", "race")
    assert line.inputs == taken().inputs
    assert line.low == taken().decision.low
    assert line.text == taken().decision.text


def test_a_decision_is_written_once(tmp_path: Path) -> None:
    log = loaded(tmp_path)
    assert not log.is_decided("hotpot", "quick", 0)
    log.settle([taken()])
    assert log.settle([taken()]) == []
    assert loaded(tmp_path).settle([taken()]) == []
    assert loaded(tmp_path).is_decided("hotpot", "quick", 0)
    assert not loaded(tmp_path).is_decided("hotpot", "quick", 1)
    assert len(loaded(tmp_path).settle([taken(), taken("head_l10")])) == 1
    assert len((tmp_path / "decisions.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": "dropped"}, "has state dropped, the runs say passed"),
        ({"reason": "promising"}, "has reason promising"),
        ({"rule": "halving"}, "has rule halving"),
        ({"arm_key": "other"}, "has arm_key other"),
        ({"numbers": {"low": -0.5}}, "has low -0.5"),
        ({"numbers": {"num_seeds": 4}}, "has num_seeds 4"),
        ({"numbers": {"p": None}}, "has p None"),
        ({"inputs": []}, "has run ids"),
    ],
)
def test_another_answer_is_told_with_its_line(tmp_path: Path, change: dict, told: str) -> None:
    row = taken().as_row()
    for key, value in change.items():
        row[key] = row[key] | value if isinstance(value, dict) else value
    first = taken("head_l10").as_row()
    append_lines(tmp_path / "decisions.jsonl", [json.loads(json.dumps(r)) for r in (first, row)])
    log = loaded(tmp_path)
    with pytest.raises(UserError) as error:
        log.settle([taken()])
    message = str(error.value)
    assert "decisions.jsonl line 2: hotpot quick rung 0 of raw_l10 " + told in message
    assert len(message.splitlines()) == 1


def test_rounding_of_another_library_is_no_contradiction(tmp_path: Path) -> None:
    row = taken().as_row()
    row["numbers"]["low"] += 1e-13
    append_lines(tmp_path / "decisions.jsonl", [row])
    assert loaded(tmp_path).settle([taken()]) == []


def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    log = loaded(tmp_path)
    log.settle([taken()])
    path = tmp_path / "decisions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"schema_version": 1, "ta')
    again = loaded(tmp_path)
    again.settle([taken(), taken("head_l10")])
    assert path.read_bytes().startswith(whole)
    assert [line.arm for line in read_decisions(tmp_path)] == ["raw_l10", "head_l10"]


def test_a_damaged_or_doubled_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    append_lines(path, [taken().as_row(), taken().as_row()])
    with pytest.raises(UserError, match=r"line 2: decides hotpot quick rung 0 of raw_l10 a second"):
        loaded(tmp_path)
    path.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"decisions\.jsonl:1: (.|\n)*another sweep\.name"):
        loaded(tmp_path)


def test_a_line_without_a_computation_is_told_at_the_end(tmp_path: Path) -> None:
    loaded(tmp_path).settle([taken(), taken("head_l10")])
    log = loaded(tmp_path)
    log.settle([taken()])
    with pytest.raises(UserError, match=r"line 2: decides .* head_l10, which the runs do not"):
        log.check_complete()
    log.settle([taken("head_l10")])
    log.check_complete()


def test_a_number_that_json_cannot_hold_is_an_error_and_not_a_line(tmp_path: Path) -> None:
    bad = replace(taken().decision, difference=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        loaded(tmp_path).settle([replace(taken(), decision=bad)])
    assert not (tmp_path / "decisions.jsonl").exists()
