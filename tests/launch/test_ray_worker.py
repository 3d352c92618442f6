"""What runs on a Ray worker, called in this process."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.launch import cluster_run, ray_worker
from fseed.launch.attempts import Limits
from fseed.launch.endings import Ending
from fseed.launch.job import Job
from fseed.launch.ray_worker import Parcel, Returned, put_files, read_files, run_parcel
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.records import read_run
from tests.launch import fake_worker
from tests.launch.jobs import make_jobs
from tests.sweep.fake_training import fail, finish, start

NO_LIMITS = Limits(None, None, 5.0)


@pytest.fixture(autouse=True)
def fake_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_run, "train", fake_worker.train)
    monkeypatch.setattr(cluster_run, "preload", lambda: None)
    # changed by the worker for its whole process
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "1")


def run(job: Job, *, files: dict[str, bytes] | None = None, limits: Limits = NO_LIMITS) -> Returned:
    return run_parcel(Parcel(job, limits, 1, Path.cwd(), files))


def test_a_run_in_a_shared_folder_leaves_its_records_there(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    returned = run(job)
    assert (returned.ended.outcome.status, returned.files) == ("finished", None)
    assert read_run(job.run.run_dir).status == "finished"
    assert (job.run.run_dir / "output.log").exists()


def test_a_run_in_a_folder_of_its_own_comes_back_as_bytes(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    returned = run(job, files={})
    assert returned.ended.outcome == RunOutcome("finished", str(job.run.run_dir), 0)
    assert not job.run.run_dir.exists()
    assert returned.files is not None
    put_files(job.run.run_dir, returned.files)
    assert read_run(job.run.run_dir).status == "finished"
    assert read_files(job.run.run_dir) == returned.files
    assert run(job).ended.outcome.status == "skipped"


def test_an_unfinished_run_travels_to_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    found: list[bytes] = []

    def resume(run: PlannedRun, position: str) -> RunOutcome:
        found.append((run.run_dir / "checkpoint.ckpt").read_bytes())
        (run.run_dir / "checkpoint.ckpt").unlink()
        return fake_worker.done(run)

    monkeypatch.setattr(cluster_run, "train", resume)
    start(job.run)
    (job.run.run_dir / "checkpoint.ckpt").write_bytes(b"half way")
    returned = run(job, files=read_files(job.run.run_dir))
    assert returned.files is not None
    put_files(job.run.run_dir, returned.files)
    assert found == [b"half way"]
    assert not (job.run.run_dir / "checkpoint.ckpt").exists()


def test_a_folder_is_put_in_place_with_its_result_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = make_jobs(tmp_path / "a", "fine")
    finish(job.run)
    files = read_files(job.run.run_dir) | {"checkpoint.ckpt": b"x", "metrics.jsonl": b""}
    fail(job.run)
    written: list[str] = []
    replace_file = os.replace

    def note(source: Path, target: Path) -> None:
        written.append(target.name)
        # no reader may take the run as failed or finished by its former records
        assert not (target.parent / "failure.json").exists()
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", note)
    put_files(job.run.run_dir, files)
    assert written[-2:] == ["checkpoint.ckpt", "result.json"]
    assert set(written) == set(files)


@pytest.mark.parametrize("name", ["../stolen", "/etc/stolen", "a/../../stolen"])
def test_no_file_leaves_the_folder_of_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside of the folder"):
        put_files(tmp_path / "run", {"config.yaml": b"", name: b"x"})
    assert not (tmp_path / "run").exists()


def test_other_code_refuses_the_run(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    job = replace(job, run=replace(job.run, code_hash="0123456789abcdef"))
    ended = run(job).ended
    assert (ended.ending, ended.outcome.status, ended.outcome.exit_code) == (
        *(Ending.answered, "failed", 2),
    )
    assert "code 0123456789" in ended.outcome.message
    assert "install the same on every machine" in ended.outcome.message
    assert not job.run.run_dir.exists()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(0.1, None, 5.0), "took longer than"),
        (Limits(None, 0.1, 5.0), "no sign of life for"),
    ],
)
def test_limits_are_watched_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, message: str
) -> None:
    monkeypatch.setattr(cluster_run, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(fake_worker, "beat", lambda *_, **__: None)
    (job,) = make_jobs(tmp_path, "saves")
    ended = run(job, limits=limits).ended
    assert ended.ending in (Ending.timed_out, Ending.stalled)
    assert ended.outcome.message.startswith(message)
    record = read_run(job.run.run_dir)
    assert record.failure is not None
    assert (record.failure["class"], (job.run.run_dir / "saved").exists()) == ("timeout", True)


def test_a_signal_before_training_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loading(run: PlannedRun, position: str) -> RunOutcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came too late")

    monkeypatch.setattr(cluster_run, "train", loading)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    (job,) = make_jobs(tmp_path, "fine")
    assert run(job).ended.outcome.status == "interrupted"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_process_that_a_run_has_changed_takes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[float] = []
    monkeypatch.setattr(ray_worker.threading, "Timer", lambda seconds, *_: FakeTimer(left, seconds))
    ray_worker._resident.cache_clear()
    clean, failing, after = make_jobs(tmp_path, "fine", "no_memory", "fine")
    answers = [
        run_parcel(Parcel(job, NO_LIMITS, 1, Path.cwd(), reuse=True))
        for job in (clean, failing, after)
    ]
    ray_worker._resident.cache_clear()
    assert [None if one.ended is None else one.ended.outcome.status for one in answers] == [
        *("finished", "failed", None),
    ]
    assert left == [ray_worker.LEAVE_SECONDS]
    assert not after.run.run_dir.exists()


class FakeTimer:
    """A timer that notes when it would have gone off."""

    def __init__(self, left: list[float], seconds: float) -> None:
        self.left, self.seconds = left, seconds

    def start(self) -> None:
        self.left.append(self.seconds)
