"""Whatever a launcher keeps of a run that fails, or prints, holds no secret."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from fseed.launch import cluster_run
from fseed.launch.attempts import Limits
from fseed.launch.cluster_run import Ended
from fseed.launch.job import Job
from fseed.launch.ray_worker import Parcel, run_parcel
from fseed.launch.submitit_job import SubmittedRun
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.provenance import REDACTED
from fseed.sweep.execute import execute_run, run_plan
from fseed.sweep.failures import record_failure
from fseed.sweep.plan import PlanEntry, RunState, SweepPlan
from tests.launch.jobs import make_jobs
from tests.sweep.fake_training import start

SECRET = "not-for-any-eyes-123"
NO_LIMITS = Limits(None, None, 5.0)


def breaks(run: PlannedRun, position: str) -> RunOutcome:
    start(run)
    print(f"asking with {SECRET}")
    raise RuntimeError(f"refused {SECRET}")


def fails(run: PlannedRun, position: str) -> RunOutcome:
    return RunOutcome("failed", f"refused {SECRET}", 1)


def by_submitit(job: Job) -> Ended:
    return SubmittedRun(job, NO_LIMITS)()


def by_ray(job: Job) -> Ended | None:
    return run_parcel(Parcel(job, NO_LIMITS, 1, Path.cwd())).ended


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    monkeypatch.setattr(cluster_run, "preload", lambda: None)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "1")


def assert_clean(capfd: pytest.CaptureFixture[str], folder: Path, *, told: object) -> None:
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    kept = b"".join([*files, pickle.dumps(told), "".join(capfd.readouterr()).encode()])
    assert SECRET.encode() not in kept
    assert REDACTED.encode() in kept


@pytest.mark.parametrize("launch", [by_submitit, by_ray])
@pytest.mark.parametrize("train", [breaks, fails])
def test_a_scheduler_keeps_no_secret(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    launch: Callable[[Job], Ended],
    train: Callable[[PlannedRun, str], RunOutcome],
) -> None:
    monkeypatch.setattr(cluster_run, "train", train)
    (job,) = make_jobs(tmp_path, "any")
    ended = launch(job)
    assert ended.outcome.status == "failed"
    assert_clean(capfd, tmp_path, told=ended)


@pytest.mark.parametrize("train", [breaks, fails])
def test_a_run_in_this_process_prints_no_secret(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    train: Callable[[PlannedRun, str], RunOutcome],
) -> None:
    (job,) = make_jobs(tmp_path, "any")
    outcome = execute_run(job.run, position="1/1", train=lambda run, _: train(run, "1/1"))
    if train is breaks:
        # the trainer's own output goes to the terminal of whoever gave the secret
        assert capfd.readouterr().out == f"asking with {SECRET}\n"
    assert_clean(capfd, tmp_path, told=outcome)


def test_a_failure_by_the_launcher_records_no_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (job,) = make_jobs(tmp_path, "any")
    start(job.run)
    assert record_failure(job.run, failure="error", message=SECRET, told=f"line\n{SECRET}")
    assert_clean(capfd, tmp_path, told=None)


def test_the_error_of_a_table_prints_no_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (job,) = make_jobs(tmp_path, "any")
    plan = SweepPlan([PlanEntry(job.run, RunState.finished, False, [])], num_duplicates=0)

    def show_table(folders: object) -> None:
        raise RuntimeError(SECRET)

    assert run_plan(plan, launch=lambda runs: [], show_table=show_table) == 1
    assert_clean(capfd, tmp_path, told=None)
