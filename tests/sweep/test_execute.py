import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.records import FAILURE_FILE, RESULT_FILE
from fseed.sweep.execute import execute_run, exit_code, run_plan
from fseed.sweep.plan import SweepPlan, plan_sweep
from tests.configs import compose_below
from tests.sweep.fake_training import FakeTraining, fail, files_below, finish, start
from tests.sweep.test_lock import holder

FINISHED = RunOutcome("finished", "", 0)
FAILED = RunOutcome("failed", "", 1)
BAD_INPUT = RunOutcome("failed", "", 2)


@pytest.fixture
def plan(tmp_path: Path) -> SweepPlan:
    words = ["fs=scalar_l10", f"output.root={tmp_path}"]
    return plan_sweep([compose_below(words)], compose=compose_below)


@pytest.fixture
def run(plan: SweepPlan) -> PlannedRun:
    return plan.to_run[0]


def launch_all(train: FakeTraining, plan: SweepPlan):
    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        return [execute_run(run, position=plan.position(run), train=train) for run in runs]

    return launch


class Table:
    """Stand in for the collected table."""

    def __init__(self) -> None:
        self.shown: list[Path] = []

    def __call__(self, run_dirs: Sequence[Path]) -> None:
        self.shown += run_dirs


def test_a_run_trains_once(run: PlannedRun, capsys: pytest.CaptureFixture[str]) -> None:
    train = FakeTraining()
    assert execute_run(run, position="1/2", train=train).status == "finished"
    assert execute_run(run, position="1/2", train=train).status == "skipped"
    assert train.started == ["no_fs s0"]
    assert "finished already" in capsys.readouterr().err


def test_a_failed_run_is_tried_again(run: PlannedRun) -> None:
    fail(run)
    assert execute_run(run, position="1/2", train=FakeTraining()).status == "finished"
    assert not (run.run_dir / FAILURE_FILE).exists()


def test_a_run_of_another_process_is_skipped(
    run: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    train = FakeTraining()
    with holder(run.run_dir) as process:
        outcome = execute_run(run, position="1/2", train=train)
    assert (outcome.status, outcome.exit_code, train.started) == ("skipped", 0, [])
    assert f"in use by process {process.pid}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "shows_trace"),
    [
        (UserError("no such data"), 2, False),
        (RuntimeError("boom"), 1, True),
        (SystemExit(0), 1, True),
        (ImportError("no torch"), 1, True),
    ],
)
def test_an_error_of_a_run_is_an_outcome(
    run: PlannedRun,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    shows_trace: bool,
) -> None:
    def train(run: PlannedRun, position: str) -> RunOutcome:
        raise error

    outcome = execute_run(run, position="1/2", train=train)
    assert (outcome.status, outcome.exit_code) == ("failed", code)
    told = capsys.readouterr().err
    assert "1/2  hotpot no_fs seed 0 failed: " in told
    assert ("Traceback" in told) == shows_trace


@pytest.mark.parametrize("kind", ["a pipe without a reader", "none at all"])
def test_a_crash_that_nobody_can_be_told_of_is_an_outcome(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def train(run: PlannedRun, position: str) -> RunOutcome:
        start(run)
        raise RuntimeError("boom")

    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stderr", closed if kind.startswith("a pipe") else None)
        outcome = execute_run(run, position="1/2", train=train)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert (run.run_dir / FAILURE_FILE).exists()


def test_a_run_that_wrote_nothing_leaves_nothing(run: PlannedRun, tmp_path: Path) -> None:
    def train(run: PlannedRun, position: str) -> RunOutcome:
        raise UserError("no such data")

    execute_run(run, position="1/2", train=train)
    assert files_below(tmp_path) == []


def test_an_interrupted_run_ends_the_sweep(plan: SweepPlan) -> None:
    def interrupt(run: PlannedRun) -> RunOutcome:
        start(run)
        return RunOutcome("interrupted", "stopped", 130)

    train, table = FakeTraining({"no_fs s0": interrupt}), Table()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, launch=launch_all(train, plan), show_table=table)
    assert train.started == ["no_fs s0"]
    assert table.shown == [entry.run.run_dir for entry in plan.entries]


def test_a_failed_run_does_not_stop_the_sweep(plan: SweepPlan) -> None:
    def crash(run: PlannedRun) -> RunOutcome:
        fail(run)
        return RunOutcome("failed", "out of memory", 1)

    train, table = FakeTraining({"no_fs s0": crash}), Table()
    assert run_plan(plan, launch=launch_all(train, plan), show_table=table) == 1
    assert train.started == ["no_fs s0", "scalar_l10 s0"]
    assert train.positions == ["1/2", "2/2"]
    assert len(table.shown) == 2


def test_the_table_comes_after_a_crash_of_the_launcher(plan: SweepPlan) -> None:
    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        raise RuntimeError("launcher lost its workers")

    table = Table()
    with pytest.raises(RuntimeError, match="lost its workers"):
        run_plan(plan, launch=launch, show_table=table)
    assert len(table.shown) == 2


def test_a_launch_that_is_refused_shows_and_writes_nothing(
    plan: SweepPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        raise UserError("no cluster")

    table = Table()
    with pytest.raises(UserError, match="no cluster"):
        run_plan(plan, launch=launch, show_table=table)
    assert (table.shown, files_below(tmp_path)) == ([], [])
    assert capsys.readouterr().err == ""


def test_a_table_that_fails_hides_nothing(
    plan: SweepPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run_dirs: Sequence[Path]) -> None:
        raise ValueError("no table")

    assert run_plan(plan, launch=launch_all(FakeTraining(), plan), show_table=broken) == 1
    assert "ValueError: no table" in capsys.readouterr().err
    assert (plan.entries[0].run.run_dir / RESULT_FILE).exists()

    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        raise RuntimeError("first")

    with pytest.raises(RuntimeError, match="first"):
        run_plan(plan, launch=launch, show_table=broken)


def test_a_finished_plan_only_shows_its_table(
    plan: SweepPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in plan.entries:
        finish(entry.run)
    done = plan_sweep(
        [compose_below(["fs=scalar_l10", f"output.root={plan_root(plan)}"])],
        compose=compose_below,
    )

    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        pytest.fail("a finished run was started")

    table = Table()
    assert run_plan(done, launch=launch, show_table=table) == 0
    assert len(table.shown) == 2
    assert "2 runs: 2 finished, 1 baseline added; none to start" in capsys.readouterr().out


def plan_root(plan: SweepPlan) -> Path:
    return plan.entries[0].run.run_dir.parents[4]


def test_a_folder_that_cannot_be_written_is_an_outcome(
    run: PlannedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "default").write_text("in the way")
    outcome = execute_run(run, position="1/2", train=FakeTraining())
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        ([FINISHED], 0),
        ([FINISHED, FAILED], 1),
        ([FINISHED, BAD_INPUT], 2),
        ([FAILED, BAD_INPUT], 1),
    ],
)
def test_exit_codes(outcomes: list[RunOutcome], code: int) -> None:
    assert exit_code(outcomes) == code


def test_planning_and_running_import_no_torch() -> None:
    """The trainer is handed in; nothing here may pull torch in by itself."""
    import subprocess

    code = "import sys, fseed.sweep.execute, fseed.sweep.plan; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
