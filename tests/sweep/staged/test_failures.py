"""What a failed run, probe, baseline or report does to a staged sweep, and what it does not."""

from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.results.staged_files import read_decisions
from fseed.sweep.staged.probe_file import Probe, ProbeFailed
from tests.sweep.staged.sweeps import GOOD_AND_BAD, Bench, ScoredTraining, crash, decided
from tests.sweep.test_lock import holder


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
