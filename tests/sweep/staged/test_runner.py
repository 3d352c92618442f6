"""A staged sweep from its first run to its report: what runs, and what is decided."""

import json
from pathlib import Path

import pytest

from fseed.planned_run import PlannedRun
from fseed.results.staged_files import read_decisions, read_plan
from tests.sweep.staged.sweeps import (
    GOOD_AND_BAD,
    Bench,
    ScoredTraining,
    decided,
    helps_by,
    stage_counts,
    states,
)

CONTROLS = 6


def test_a_race_drops_the_bad_arm_and_confirms_the_good_one(tmp_path: Path) -> None:
    bench, train = Bench(tmp_path, controls=True), ScoredTraining(GOOD_AND_BAD)
    assert bench.run(train) == 0
    assert decided(bench) == [
        ("hotpot", "quick", 0, "scalar_l10", "passed", "above_zero"),
        ("hotpot", "quick", 0, "raw_l10", "dropped", "below_wanted_gain"),
        ("hotpot", "medium", 0, "scalar_l10", "passed", "above_zero"),
    ]
    # no_fs and both arms on 3 seeds; no_fs and one arm; those with 6 controls on 5 seeds
    assert stage_counts(train) == {"quick": 9, "medium": 6, "confirm": 5 * (2 + CONTROLS)}
    assert states(bench) == {"scalar_l10": "confirm complete", "raw_l10": "quick dropped"}
    assert bench.shown == [bench.folder]
    assert bench.view.is_closed


def test_stages_never_share_a_seed_and_each_has_its_own_baseline(tmp_path: Path) -> None:
    bench, train = Bench(tmp_path, "seed=7", controls=True), ScoredTraining(GOOD_AND_BAD)
    assert bench.run(train) == 0
    seeds: dict[str, set[int]] = {}
    for name in train.started:
        _, stage, arm, seed = name.split()
        seeds.setdefault(f"{stage} {arm}", set()).add(int(seed[1:]))
    assert seeds["quick no_fs"] == {7, 8, 9}
    assert seeds["medium no_fs"] == seeds["medium scalar_l10"] == {12, 13, 14}
    assert seeds["confirm no_fs"] == seeds["confirm scalar_l10"] == {17, 18, 19, 20, 21}
    confirm = {key for key in seeds if key.startswith("confirm")}
    assert len(confirm) == 2 + CONTROLS
    assert all(seeds[key] == {17, 18, 19, 20, 21} for key in confirm)


def test_only_the_confirm_stage_reads_the_test_split(tmp_path: Path) -> None:
    read: dict[str, set[bool]] = {}

    def gain(run: PlannedRun) -> float:
        read.setdefault(run.config.sweep.stage, set()).add(run.config.budget.test)
        return GOOD_AND_BAD(run)

    assert Bench(tmp_path).run(ScoredTraining(gain)) == 0
    assert read == {"quick": {False}, "medium": {False}, "confirm": {True}}


def test_controls_can_be_left_out(tmp_path: Path) -> None:
    bench, train = Bench(tmp_path), ScoredTraining(GOOD_AND_BAD)
    assert bench.run(train) == 0
    assert stage_counts(train)["confirm"] == 10
    assert json.loads((bench.folder / "plan.json").read_text())["controls"] is False
    assert any("stands without its controls" in line for line in bench.view.lines)


def test_an_undecided_arm_gets_more_seeds_before_it_is_judged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.arms = ["scalar_l10"]
    train = ScoredTraining(helps_by(scalar_l10=0.004))
    assert bench.run(train) == 0
    quick = [row[2:5] for row in decided(bench) if row[1] == "quick"]
    assert quick == [(0, "scalar_l10", "continues"), (1, "scalar_l10", "passed")]
    assert stage_counts(train)["quick"] == 10


def test_a_sweep_without_survivors_ends_after_quick(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    train = ScoredTraining(helps_by(scalar_l10=-0.1, raw_l10=-0.1))
    assert bench.run(train) == 0
    assert stage_counts(train) == {"quick": 9}
    assert bench.shown == [bench.folder]


def test_halving_keeps_the_best_half_of_each_rung(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "sweep.rule=halving")
    bench.arms = ["scalar_l10", "raw_l10", "head_l10", "scalar_l8"]
    gains = {"scalar_l10": 0.01, "raw_l10": 0.02, "head_l10": 0.03, "scalar_l8": 0.0}
    assert bench.run(ScoredTraining(helps_by(**gains))) == 0
    last = {(stage, rung): set() for _, stage, rung, *_ in decided(bench)}
    for _, stage, rung, arm, state, _ in decided(bench):
        last[stage, rung] |= {arm} if state != "dropped" else set()
    assert last == {
        ("quick", 0): {"raw_l10", "head_l10"},
        ("quick", 1): {"head_l10"},
        ("medium", 0): {"head_l10"},
        ("medium", 1): {"head_l10"},
    }


def test_the_threshold_rule_decides_on_one_seed(tmp_path: Path) -> None:
    words = ["sweep.rule=threshold", "sweep.quick_seeds=1", "sweep.medium_seeds=1"]
    bench = Bench(tmp_path, *words)

    def gain(run: PlannedRun) -> float:
        # above 0.001 once, below 0.002 on the fresh seed
        return 0.5 if run.arm == "no_fs" else 0.5015

    train = ScoredTraining(gain)
    assert bench.run(train) == 0
    assert [row[1:] for row in decided(bench)] == [
        ("quick", 0, "scalar_l10", "passed", "reaches_threshold"),
        ("quick", 0, "raw_l10", "passed", "reaches_threshold"),
        ("medium", 0, "scalar_l10", "dropped", "below_threshold"),
        ("medium", 0, "raw_l10", "dropped", "below_threshold"),
    ]
    assert stage_counts(train) == {"quick": 3, "medium": 3}


def test_two_tasks_decide_for_themselves(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tasks=("hotpot", "arc"))

    def gain(run: PlannedRun) -> float:
        better = {"hotpot": "scalar_l10", "arc": "raw_l10"}[run.config.task.name]
        return 0.5 + (0.05 + 0.001 * run.config.seed if run.arm == better else 0)

    assert bench.run(ScoredTraining(gain)) == 0
    passed = {(task, arm) for task, stage, _, arm, state, _ in decided(bench) if state == "passed"}
    assert passed == {("hotpot", "scalar_l10"), ("arc", "raw_l10")}
    assert bench.probed == [
        "hotpot scalar_l10",
        "arc scalar_l10",
    ]


def test_decisions_hold_their_inputs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, controls=True)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    one = read_decisions(bench.folder)[0]
    assert [pair.seed for pair in one.inputs] == [0, 1, 2]
    assert one.num_seeds == 3
    assert one.difference == pytest.approx(sum(pair.difference for pair in one.inputs) / 3)
    ids = {path.parent.name.split("-")[1] for path in bench.folder.rglob("result.json")}
    assert {pair.arm_run_id for pair in one.inputs} < ids
    plan = read_plan(bench.folder)
    assert plan is not None
    assert [arm.label for arm in plan.arms if arm.control_of is None] == ["scalar_l10", "raw_l10"]
    assert sum(arm.control_of == "raw_l10" for arm in plan.arms) == CONTROLS


def test_a_batch_that_does_not_fit_is_split_alike_for_every_arm(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.micro_batch_size = 2
    sizes: set[int | None] = set()

    def gain(run: PlannedRun) -> float:
        sizes.add(run.config.trainer.micro_batch_size)
        return GOOD_AND_BAD(run)

    assert bench.run(ScoredTraining(gain)) == 0
    assert sizes == {2}
    again = ScoredTraining(gain)
    assert bench.run(again) == 0
    assert again.started == []


def test_a_launcher_of_many_gets_every_run_that_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tasks=("hotpot", "arc"))
    bench.batch_size = None
    train = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(train) == 0
    assert [name.split()[:2] for name in train.started[:18]] == (
        [["hotpot", "quick"]] * 9 + [["arc", "quick"]] * 9
    )
