"""A staged sweep from its first run to its report, and after every kind of end."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from fseed import atomic
from fseed.errors import UserError
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.results.staged_files import read_decisions, read_plan
from fseed.sweep.staged import decisions_file
from fseed.sweep.staged.probe_file import Probe, ProbeFailed
from tests.sweep.fake_training import files_below
from tests.sweep.staged.sweeps import (
    Bench,
    ScoredTraining,
    crash,
    finish_with,
    helps_by,
    states,
)
from tests.sweep.test_lock import holder

GOOD_AND_BAD = helps_by(scalar_l10=0.05, raw_l10=-0.05)
CONTROLS = 6


def stage_counts(train: ScoredTraining) -> dict[str, int]:
    return dict(Counter(name.split()[1] for name in train.started))


def decided(bench: Bench) -> list[tuple[str, str, int, str, str, str]]:
    found = read_decisions(bench.folder)
    return [(d.task, d.stage, d.rung, d.arm, d.state, d.reason) for d in found]


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


def test_a_finished_sweep_starts_nothing_and_decides_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    names = ("plan.json", "decisions.jsonl", "probe.json")
    before = {name: (bench.folder / name).read_bytes() for name in names}
    again = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(again) == 0
    assert again.started == []
    assert {name: (bench.folder / name).read_bytes() for name in names} == before
    assert len(bench.probed) == 1
    assert len(bench.shown) == 2
    assert bench.view.lines[0].startswith("resumed")


class Killed(BaseException):
    """Stands for kill -9: no handler of the program may catch it."""


def test_a_sweep_killed_at_any_write_resumes_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at the n-th write of the sweep's own files and of every result, for every n."""
    whole = Bench(tmp_path / "whole")
    assert whole.run(ScoredTraining(GOOD_AND_BAD)) == 0
    expected = decided(whole)
    bench = Bench(tmp_path / "killed")
    finished: list[str] = []
    real_replace, real_fsync = os.replace, os.fsync
    countdown = 0

    def tick() -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            raise Killed

    def replace(source: Path, target: Path) -> None:
        if target.name in ("plan.json", "probe.json", "result.json"):
            tick()
        real_replace(source, target)
        if target.name == "result.json":
            finished.append(str(target))

    def fsync(descriptor: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")) == "decisions.jsonl":
            tick()
        real_fsync(descriptor)

    monkeypatch.setattr(atomic.os, "replace", replace)
    monkeypatch.setattr(decisions_file.os, "fsync", fsync)
    kills = 0
    while True:
        countdown = 1  # one write further each time
        try:
            code = bench.run(ScoredTraining(GOOD_AND_BAD))
            break
        except Killed:
            kills += 1
    assert code == 0
    assert kills > 25
    assert decided(bench) == expected
    assert max(Counter(finished).values()) == 1
    assert len(finished) == sum(path.endswith("result.json") for path in files_below(whole.root))


def test_a_torn_last_decision_is_taken_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    path = bench.folder / "decisions.jsonl"
    text = path.read_text()
    path.write_text(text[:-40])
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 0
    assert path.read_text() == text


def test_changed_records_are_told_with_the_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    sweep = bench.build()
    paths = sorted((bench.folder / "hotpot" / "quick" / "raw_l10").iterdir())
    run = next(
        sweep.book.run(slot, seed=0)
        for slot in sweep.book._entries
        if (slot.arm, slot.stage, slot.control) == ("raw_l10", "quick", "none")
    )
    assert run.run_dir == paths[0]
    finish_with(run, 0.9)
    with pytest.raises(UserError, match=r"decisions\.jsonl line 2: hotpot quick rung 0 of raw_l10"):
        bench.run(ScoredTraining(GOOD_AND_BAD))


def test_a_decision_that_nothing_leads_to_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    path = bench.folder / "decisions.jsonl"
    line = json.loads(path.read_text().splitlines()[1]) | {"stage": "medium"}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"line 4: decides hotpot medium rung 0 of raw_l10, which"):
        bench.run(ScoredTraining(GOOD_AND_BAD))


def test_an_arm_with_a_failed_run_is_decided_by_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    script = {"hotpot quick raw_l10 s1": crash}
    assert bench.run(ScoredTraining(GOOD_AND_BAD, script)) == 1
    rows = {(d.stage, d.rung, d.arm): d for d in read_decisions(bench.folder)}
    first = rows["quick", 0, "raw_l10"]
    assert (first.state, first.reason, len(first.inputs)) == ("continues", "too_few_pairs", 2)
    assert "seed 1 failed (oom: stopped)" in first.text
    assert rows["quick", 1, "raw_l10"].state == "dropped"
    assert len(rows["quick", 1, "raw_l10"].inputs) == 4
    # a failure that a decision rests on is not tried again: the decision would change
    again = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(again) == 1
    assert again.started == []


def test_a_failed_run_is_tried_again_while_nothing_rests_on_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def stop(run: PlannedRun) -> RunOutcome:
        return RunOutcome("interrupted", "stopped", 130)

    script = {"hotpot quick raw_l10 s0": crash, "hotpot quick no_fs s1": stop}
    with pytest.raises(KeyboardInterrupt):
        bench.run(ScoredTraining(GOOD_AND_BAD, script))
    assert bench.shown == [bench.folder]
    again = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(again) == 0
    assert again.started[:2] == ["hotpot quick raw_l10 s0", "hotpot quick no_fs s1"]
    assert "hotpot quick no_fs s0" not in again.started


def test_a_failed_baseline_stops_its_task_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tasks=("hotpot", "arc"))
    train = ScoredTraining(GOOD_AND_BAD, {"hotpot quick no_fs s1": crash})
    assert bench.run(train) == 1
    (line,) = [line for line in bench.view.lines if "stops in" in line]
    assert line == "hotpot stops in stage quick: no_fs of seed 1 failed: oom: stopped"
    assert {row[0] for row in decided(bench)} == {"arc"}
    assert not any(name.startswith("hotpot quick scalar_l10 s2") for name in train.started)
    again = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(again) == 0
    assert again.started[0] == "hotpot quick no_fs s1"


def test_a_run_that_another_process_holds_stops_its_task(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run = bench.build().book
    slot = next(s for s in run._entries if (s.arm, s.stage) == ("raw_l10", "quick"))
    with holder(run.run(slot, seed=0).run_dir):
        assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 1
    assert any("raw_l10 of seed 0 missing" in line for line in bench.view.lines)
    assert decided(bench) == []
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 0


def test_two_processes_cannot_share_a_sweep(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with (
        holder(bench.folder) as process,
        pytest.raises(UserError, match=f"in use by process {process.pid}"),
    ):
        bench.run(ScoredTraining(GOOD_AND_BAD))
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 0


def test_a_failed_probe_stops_its_task_and_leaves_no_trace(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tasks=("hotpot", "arc"))
    real = bench.measure

    def measure(run: PlannedRun) -> Probe:
        if run.config.task.name == "hotpot":
            raise ProbeFailed("not even one example fits")
        return real(run)

    bench.measure = measure
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 1
    assert "hotpot stops before its first run: not even one example fits" in bench.view.lines
    assert {row[0] for row in decided(bench)} == {"arc"}
    bench.measure = real
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 0
    assert {row[0] for row in decided(bench)} == {"arc", "hotpot"}


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


def test_a_report_that_fails_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)

    class Broken(list):
        def append(self, folder: Path) -> None:
            raise ValueError("no table")

    bench.shown = Broken()
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 1
    assert "ValueError: no table" in capsys.readouterr().err
    assert len(decided(bench)) == 3


def test_a_crash_that_leaves_no_record_is_missing_and_stops_the_task(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def vanish(run: PlannedRun) -> RunOutcome:
        raise SystemExit(3)

    assert bench.run(ScoredTraining(GOOD_AND_BAD, {"hotpot quick raw_l10 s0": vanish})) == 1
    assert any("raw_l10 of seed 0 missing" in line for line in bench.view.lines)
