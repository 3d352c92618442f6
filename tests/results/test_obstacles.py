from pathlib import Path

import pytest

from fseed.records import find_runs
from fseed.results.collection import collect_runs
from fseed.results.comparison import Comparison
from fseed.results.controls import find_controls
from fseed.results.obstacles import Obstacles, find_obstacles, is_tied
from fseed.results.pairs import build_arms
from fseed.results.runs import load_run
from tests.results.builders import RunSpec, fail_run, finish_run, identity_of
from tests.results.staged import SEEDS, plan_arm, write_plan

GAINS = (20, 24, 22, 25, 21)
CONFIRM = SEEDS["confirm"]


def spec_of(seed: int, gain: int, *, arm: str = "scalar_l10", stage: str = "plain") -> RunSpec:
    correct = [20] * 19 + [20 + gain]
    loss = 1 + seed + gain / 99
    return RunSpec(arm=arm, seed=seed, correct=correct, units=(60,) * 20, loss=loss).at(stage)


def write_pair(root: Path, seed: int, *, stage: str = "plain") -> None:
    finish_run(root, spec_of(seed, 0, arm="no_fs", stage=stage))
    finish_run(root, spec_of(seed, GAINS[seed % 5], stage=stage))


def arm_row(root: Path, *, stage: str | None = None) -> Comparison:
    (row,) = (
        row
        for row in collect_runs([root]).comparisons
        if row.control == "none" and stage in (None, row.stage)
    )
    return row


@pytest.mark.parametrize("num_finished", [0, 1, 3])
def test_a_control_with_failed_seeds_rules_nothing_out(tmp_path: Path, num_finished: int) -> None:
    for seed in range(5):
        write_pair(tmp_path, seed)
        control = spec_of(seed, 1 + seed % 2).control("random_state")
        (finish_run if seed < num_finished else fail_run)(tmp_path, control)
    row = arm_row(tmp_path)
    assert (row.verdict, row.reason_code) == ("inconclusive", "control_unfinished")
    assert "scalar_l10,control=random_state" in row.reason
    assert "detectable with power 0.8" in row.reason


@pytest.mark.parametrize(
    ("control_of", "verdict"), [("scalar_l10", "inconclusive"), ("head_l10", "helps")]
)
def test_a_registered_control_that_never_ran_rules_nothing_out(
    tmp_path: Path, control_of: str, verdict: str
) -> None:
    for seed in CONFIRM:
        write_pair(tmp_path, seed, stage="confirm")
    missing = plan_arm("the control", "k1", control="same_layer", control_of=control_of)
    write_plan(tmp_path / "default", [missing])
    row = arm_row(tmp_path)
    assert row.verdict == verdict
    assert ("the control" in row.reason) is (verdict == "inconclusive")
    assert row.reason_code in ("control_unfinished", "interval_above_zero")


def test_a_registered_control_that_ran_clears_the_arm(tmp_path: Path) -> None:
    control = spec_of(0, 1, stage="confirm").control("same_layer")
    for seed in CONFIRM:
        write_pair(tmp_path, seed, stage="confirm")
        finish_run(tmp_path, spec_of(seed, 1 + seed % 2, stage="confirm").control("same_layer"))
    key = identity_of(control)["arm_key"]
    entry = plan_arm(control.arm, key, control="same_layer", control_of="scalar_l10")
    write_plan(tmp_path / "default", [entry])
    assert arm_row(tmp_path).verdict == "helps"


def test_a_look_before_all_planned_seeds_is_no_test(tmp_path: Path) -> None:
    for seed in CONFIRM[:3]:
        write_pair(tmp_path, seed, stage="confirm")
    assert arm_row(tmp_path).verdict == "helps"
    write_plan(tmp_path / "default", [])
    row = arm_row(tmp_path)
    assert (row.verdict, row.reason_code) == ("inconclusive", "seeds_not_started")
    assert "no test: 9,10; detectable" in row.reason
    for seed in CONFIRM[3:]:
        write_pair(tmp_path, seed, stage="confirm")
    assert arm_row(tmp_path).verdict == "helps"


def test_seeds_of_an_earlier_stage_confirm_nothing(tmp_path: Path) -> None:
    for stage, seeds, steps in (("quick", range(3), 40), ("confirm", range(5), 160)):
        for seed in seeds:
            for arm, gain in (("no_fs", 0), ("scalar_l10", GAINS[seed])):
                spec = spec_of(seed, gain, arm=arm, stage=stage)
                longer = {**spec.changes, "budget.steps": steps}
                finish_run(tmp_path, spec.with_(changes=longer, loss=spec.loss + steps))
    row = arm_row(tmp_path, stage="confirm")
    assert (row.verdict, row.reason_code) == ("inconclusive", "seeds_reused")
    assert "seed 0 at quick, seed 1 at quick, seed 2 at quick; detectable" in row.reason


def test_an_aa_arm_that_differs_makes_its_table_invalid(tmp_path: Path) -> None:
    for seed in range(5):
        write_pair(tmp_path, seed)
        write_pair(tmp_path / "other", seed)
        aa = spec_of(seed, 1 if seed == 3 else 0, arm="scalar_l10").control("aa")
        finish_run(tmp_path, aa.with_(loss=spec_of(seed, 0).loss))
    rows = collect_runs([tmp_path / "default"]).comparisons
    assert {(row.verdict, row.reason_code) for row in rows} == {("invalid", "aa_differs")}
    assert "scalar_l10,control=aa" in rows[0].reason
    assert rows[0].difference is not None
    assert arm_row(tmp_path / "other").verdict == "helps"


def test_nothing_stands_in_the_way_of_a_plain_row(tmp_path: Path) -> None:
    for seed in range(3):
        write_pair(tmp_path, seed)
    arms = build_arms([load_run(record) for record in find_runs([tmp_path])])
    assert find_obstacles(arms, find_controls(arms)) == [Obstacles()]
    (arm,) = arms
    run, base = arm.pairs[0]
    assert is_tied(run, run)
    assert not is_tied(run, base)
    (told,) = find_obstacles(arms, find_controls(arms), contradicted={str(base.run_id)})
    assert told.contradiction is not None
    assert str(base.run_id) in told.contradiction.text
