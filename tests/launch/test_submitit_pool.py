"""Bounds, retries and endings of submitit jobs, with a stand-in for submitit's executor."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

from fseed.config.schema import LauncherConfig
from fseed.launch import cluster_pool, submitit_pool
from fseed.launch.attempts import Limits
from fseed.launch.cluster_run import Ended
from fseed.launch.endings import FAILURE_RULES, Ending
from fseed.launch.job import Job
from fseed.launch.submitit_job import SubmittedRun
from fseed.launch.submitit_pool import launch_jobs
from fseed.planned_run import RunOutcome
from fseed.records import read_run
from fseed.sweep.plan import is_finished
from tests.launch.jobs import Clock, is_alive, make_jobs, wait_for_pid, wait_until
from tests.launch.submitted import FakeSubmittedRun
from tests.sweep.fake_training import fail, finish, start

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class FakeJob:
    """A job of submitit that has ended as ``state`` says, answered or not."""

    call: SubmittedRun | None
    state: str = "FINISHED"
    answer: object = None
    failure: str | None = None  # class in failure.json
    paths: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(stderr="job.err"))

    def done(self) -> bool:
        return True

    def results(self) -> list[object]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]


class FakeExecutor:
    """Starts what ``script`` says, one entry a submission of the arm; then runs finish."""

    def __init__(
        self,
        script: dict[str, list[FakeJob]] | None = None,
        *,
        cluster: str = "local",
        clock: Callable[[], float] = time.monotonic,
    ):
        self.script, self.cluster, self.clock = script or {}, cluster, clock
        self.batches: list[list[str]] = []
        self.times: list[float] = []  # of the batches
        self.refusals: list[Exception] = []  # of the first submissions
        self.environments: list[dict[str, str]] = []

    def submit_array(self, calls: list[SubmittedRun]) -> list[FakeJob]:
        self.batches.append([call.job.run.arm for call in calls])
        self.times.append(self.clock())
        if self.refusals:
            raise self.refusals.pop(0)
        self.environments += [call.environment for call in calls]
        return [self._start(call) for call in calls]

    def _start(self, call: SubmittedRun) -> FakeJob:
        left = self.script.get(call.job.run.arm)
        if left:
            job = left.pop(0)
            if job.failure is None:
                start(call.job.run)
            else:
                fail(call.job.run, kind=job.failure)
            return job
        finish(call.job.run)
        outcome = RunOutcome("finished", str(call.job.run.run_dir), 0)
        return FakeJob(call, answer=Ended(Ending.answered, outcome))


def lost(state: str) -> FakeJob:
    return FakeJob(None, state, UncompletedJobError("no output"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit_pool, "POLL_SECONDS", 0.0)


def launch(jobs: list[Job], executor: FakeExecutor, **options: object) -> list[RunOutcome]:
    named = {"retries": 1, "grace_seconds": 5.0, **options}
    return launch_jobs(jobs, LauncherConfig(**named), executor=executor)  # type: ignore[arg-type]


def test_no_more_local_jobs_than_slots(tmp_path: Path) -> None:
    executor = FakeExecutor()
    jobs = make_jobs(tmp_path, *"abcde")
    assert [outcome.status for outcome in launch(jobs, executor, slots=2)] == ["finished"] * 5
    assert executor.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert {each["OMP_NUM_THREADS"] for each in executor.environments} == {"1"}


def test_arrays_stay_below_what_slurm_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit_pool, "MAX_ARRAY", 3)
    executor = FakeExecutor(cluster="slurm")
    launch(make_jobs(tmp_path, *"abcde"), executor, slots=1)
    assert executor.batches == [["a", "b", "c"], ["d", "e"]]
    assert executor.environments == [{}] * 5


@pytest.mark.parametrize("state", ["NODE_FAIL", "FINISHED", "INTERRUPTED"])
def test_a_lost_job_is_started_again(tmp_path: Path, state: str) -> None:
    executor = FakeExecutor({"b": [lost(state)]})
    outcomes = launch(make_jobs(tmp_path, *"abc"), executor, slots=3)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    assert executor.batches == [["a", "b", "c"], ["b"]]


def test_the_other_side_gets_time_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run does not wait for it."""
    clock = Clock()
    for module in (cluster_pool, submitit_pool):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(submitit_pool, "POLL_SECONDS", 0.5)
    answer = Ended(Ending.answered, RunOutcome("failed", "nobody answers", 1))
    unreachable = FakeJob(None, answer=answer, failure="network")
    executor = FakeExecutor({"a": [unreachable]}, clock=clock.monotonic)
    outcomes = launch(make_jobs(tmp_path, "a", "b"), executor, slots=1)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert executor.batches == [["a"], ["b"], ["a"]]
    first, other, again = executor.times
    ended, wait = first + 0.5, FAILURE_RULES["network"].wait_seconds
    assert other == ended
    assert ended + wait <= again <= ended + wait + 0.5


@pytest.mark.parametrize("cluster", ["local", "slurm"])
@pytest.mark.parametrize(
    "error", [OSError("Cannot allocate memory"), RuntimeError("sbatch:\n  no such partition")]
)
def test_what_is_refused_makes_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, error: Exception
) -> None:
    monkeypatch.setattr(submitit_pool, "MAX_ARRAY", 1)
    executor = FakeExecutor(cluster=cluster)
    executor.refusals = [error]
    jobs = make_jobs(tmp_path, *"abc")
    refused, *others = launch(jobs, executor, slots=1, retries=5)
    last_line = str(error).splitlines()[-1].strip()
    assert (refused.status, refused.message) == ("failed", f"not started: {last_line}")
    assert [outcome.status for outcome in others] == ["finished", "finished"]
    assert executor.batches == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("state", "failure", "num_starts"),
    [("NODE_FAIL", "error", 2), ("OUT_OF_MEMORY", "oom", 1), ("TIMEOUT", "timeout", 1)],
)
def test_a_run_that_stays_lost_is_a_failed_run(
    tmp_path: Path, state: str, failure: str, num_starts: int
) -> None:
    executor = FakeExecutor({"a": [lost(state), lost(state)]}, cluster="slurm")
    jobs = make_jobs(tmp_path, "a", "b")
    lost_run, other = launch(jobs, executor)
    assert (lost_run.status, lost_run.exit_code, other.status) == ("failed", 1, "finished")
    assert lost_run.message == f"the job ended without an answer ({state}), see job.err"
    record = read_run(jobs[0].run.run_dir)
    assert record.failure is not None
    assert (record.status, record.failure["class"]) == ("failed", failure)
    assert sum(batch.count("a") for batch in executor.batches) == num_starts


def test_an_exception_of_the_job_is_the_message(tmp_path: Path) -> None:
    text = "Traceback:\n  File x\nModuleNotFoundError: No module named 'fseed'\n"
    executor = FakeExecutor({"a": [FakeJob(None, answer=FailedJobError(text))]})  # type: ignore[arg-type]
    (outcome,) = launch(make_jobs(tmp_path, "a"), executor)
    assert (outcome.status, outcome.message) == (
        *("failed", "ModuleNotFoundError: No module named 'fseed'"),
    )


def test_a_job_travels_as_bytes_of_its_own_run_alone(tmp_path: Path) -> None:
    import pickle

    jobs = make_jobs(tmp_path, *"abc")
    call = SubmittedRun(jobs[0], Limits(None, None, 30.0))
    assert pickle.loads(pickle.dumps(call)) == call
    assert len(pickle.dumps(call)) < 20_000
    assert call.checkpoint().function is call


class Local:
    """submitit's own processes of this machine around the stand-in for the trainer."""

    def __init__(self, folder: Path) -> None:
        self.executor = submitit.AutoExecutor(folder=folder / "%j", cluster="local")
        self.executor.update_parameters(timeout_min=1000)

    def launch(self, jobs: list[Job], **options: object) -> list[RunOutcome]:
        return launch(jobs, self.executor, slots=2, **options)  # type: ignore[arg-type]


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    monkeypatch.setattr(submitit_pool, "SubmittedRun", FakeSubmittedRun)
    monkeypatch.setattr(submitit_pool, "POLL_SECONDS", 0.1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Local(tmp_path / "submitted")


@pytest.mark.slow
def test_local_jobs_end_in_every_way(tmp_path: Path, local: Local) -> None:
    arms = ("fine", "killed_once", "preempts_itself", "no_memory", "leave")
    jobs = make_jobs(tmp_path / "runs", *arms)
    outcomes = local.launch(jobs)
    assert [outcome.status for outcome in outcomes] == [*["finished"] * 3, "failed", "failed"]
    assert (jobs[2].run.run_dir / "saved").exists()
    assert "without an answer (FINISHED)" in outcomes[4].message


@pytest.mark.slow
def test_a_run_past_its_time_saves_and_is_invalid(tmp_path: Path, local: Local) -> None:
    (job,) = make_jobs(tmp_path / "runs", "saves")
    (outcome,) = local.launch([job], timeout_minutes=0.02)
    message = "took longer than 0.02 minutes (launcher.timeout_minutes)"
    assert (outcome.status, outcome.message) == ("failed", message)
    record = read_run(job.run.run_dir)
    assert record.failure is not None
    assert (record.failure["class"], (job.run.run_dir / "saved").exists()) == ("timeout", True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "message", "failure"),
    [
        ("timeout_minutes", "took longer than 0.02 minutes (launcher.timeout_minutes)", "timeout"),
        ("stall_minutes", "no sign of life for 0.02 minutes (launcher.stall_minutes)", "timeout"),
    ],
)
def test_a_run_that_hangs_is_killed_by_its_own_process(
    tmp_path: Path, local: Local, limit: str, message: str, failure: str
) -> None:
    (job,) = make_jobs(tmp_path / "runs", "hangs")
    (outcome,) = local.launch([job], grace_seconds=0.2, retries=0, **{limit: 0.02})
    assert (outcome.status, outcome.message[: len(message)]) == ("failed", message)
    record = read_run(job.run.run_dir)
    assert record.failure is not None
    assert record.failure["class"] == failure


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "starts"), [("timeout_minutes", 1), ("stall_minutes", 2)])
def test_a_stalled_run_is_started_again_and_one_past_its_time_is_not(
    tmp_path: Path, local: Local, capsys, limit: str, starts: int
) -> None:
    (job,) = make_jobs(tmp_path / "runs", "hangs")
    (outcome,) = local.launch([job], grace_seconds=0.2, retries=1, **{limit: 0.02})
    assert outcome.message.endswith(f"(launcher.{limit})")
    assert capsys.readouterr().err.count(" submitted") == starts


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["saves", "stubborn"])
def test_ctrl_c_waits_for_saves_and_leaves_no_process(
    tmp_path: Path, local: Local, arm: str
) -> None:
    jobs = make_jobs(tmp_path / "runs", arm, arm, "fine")
    processes: list[int] = []

    def press() -> None:
        processes.extend(wait_for_pid(job) for job in jobs[:2])
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        local.launch(jobs, grace_seconds=20.0 if arm == "saves" else 1.0)
    thread.join()
    wait_until(lambda: not any(is_alive(process) for process in processes))
    assert [(job.run.run_dir / "saved").exists() for job in jobs] == [arm == "saves"] * 2 + [False]
    assert not any(is_finished(job.run) for job in jobs)
