"""Jobs in processes of their own: every end is an outcome, and nothing stays behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fseed.config.schema import LauncherConfig
from fseed.launch import endings
from fseed.launch.attempts import EXIT_SECONDS
from fseed.launch.pool import launch_jobs
from fseed.records import read_run
from tests.launch.jobs import (
    Launch,
    cpu_plan,
    is_alive,
    log_of,
    make_jobs,
    wait_for_pid,
    wait_until,
)


@pytest.fixture
def launch() -> Launch:
    return Launch()


def test_every_job_runs_once_in_a_process_of_its_own(tmp_path: Path, launch: Launch) -> None:
    jobs = make_jobs(tmp_path, "fine", "fine", "fine")
    outcomes = launch(jobs)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    assert [outcome.message for outcome in outcomes] == [str(job.run.run_dir) for job in jobs]
    assert len({log_of(job) for job in jobs}) == 3
    assert launch.told.count("started in slot") == 3
    last = r"3/3  hotpot fine seed 2 finished after \d+ s  loss 1.500  1,000 tok/s\n"
    assert re.search(last, launch.told)


def test_a_finished_run_is_not_repeated(tmp_path: Path, launch: Launch) -> None:
    jobs = make_jobs(tmp_path, "fine")
    assert launch(jobs)[0].status == "finished"
    log = log_of(jobs[0])
    assert launch(jobs)[0].status == "skipped"
    assert log_of(jobs[0]) == log


@pytest.mark.parametrize(
    ("arm", "message", "failure"),
    [
        ("segfault", "was ended by signal 11 (SIGSEGV)", "error"),
        ("leave", "left with exit code 0 and no answer: no reason given", "error"),
        ("leave_politely", "SystemExit: a library wants to leave", "error"),
        ("no_memory", "out of memory", "oom"),
    ],
)
def test_a_crash_ends_that_run_alone(
    tmp_path: Path, launch: Launch, arm: str, message: str, failure: str
) -> None:
    jobs = make_jobs(tmp_path, "fine", arm, "fine")
    outcomes = launch(jobs, retries=3)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert message in outcomes[1].message
    assert (outcomes[1].exit_code, "tried again" in launch.told) == (1, False)
    record = read_run(jobs[1].run.run_dir)
    assert record.failure is not None
    assert (record.status, record.failure["class"]) == ("failed", failure)


def test_a_segfault_leaves_its_trace_in_the_records(tmp_path: Path, launch: Launch) -> None:
    job = make_jobs(tmp_path, "segfault")[0]
    launch([job])
    failure = json.loads((job.run.run_dir / "failure.json").read_text())
    assert "ctypes" in failure["traceback"]
    assert "Segmentation fault" in log_of(job)


def test_bad_input_is_told_as_such_and_not_tried_again(tmp_path: Path, launch: Launch) -> None:
    outcome = launch(make_jobs(tmp_path, "bad_input"), retries=3)[0]
    assert (outcome.exit_code, outcome.message) == (2, "no such data")
    assert re.search(r"failed after \d+ s: no such data", launch.told)


@pytest.mark.parametrize(
    "arm", ["killed_once", "network_once", pytest.param("hangs_once", marks=pytest.mark.slow)]
)
def test_what_was_lost_is_tried_again(
    tmp_path: Path, launch: Launch, arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fseed.launch.pool.time.sleep", lambda _: None)
    rules = {
        name: endings.Rule(rule.is_retried, rule.reason)
        for name, rule in endings.FAILURE_RULES.items()
    }
    monkeypatch.setattr(endings, "FAILURE_RULES", rules)
    job = make_jobs(tmp_path, arm)[0]
    assert launch([job], retries=1, stall_minutes=0.1)[0].status == "finished"
    assert "tried again" in launch.told
    assert not (job.run.run_dir / "failure.json").exists()


def test_no_attempts_left_is_a_failure(tmp_path: Path, launch: Launch) -> None:
    job = make_jobs(tmp_path, "killed_once")[0]
    outcome = launch([job])[0]
    assert outcome.status == "failed"
    assert "was ended by signal 9 (SIGKILL) from outside" in outcome.message
    record = read_run(job.run.run_dir)
    assert record.failure is not None
    assert record.failure["class"] == "error"
    assert launch([job])[0].status == "finished"


def test_what_lies_on_disk_counts(tmp_path: Path, launch: Launch) -> None:
    jobs = make_jobs(tmp_path, "finished_then_killed")
    assert launch(jobs)[0].status == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arm", "options", "status", "message"),
    [
        ("saves", {"timeout_minutes": 0.1}, "failed", "took longer than 0.1 minutes"),
        ("stubborn", {"timeout_minutes": 0.1}, "failed", "took longer than 0.1 minutes"),
        ("hangs", {"stall_minutes": 0.1}, "failed", "no sign of life for 0.1 minutes"),
    ],
)
def test_a_limit_ends_a_run(
    tmp_path: Path, launch: Launch, arm: str, options: dict[str, float], status: str, message: str
) -> None:
    jobs = make_jobs(tmp_path, arm, "fine")
    outcome, other = launch(jobs, slots=1, **options)
    assert (outcome.status, other.status) == (status, "finished")
    assert message in outcome.message
    assert read_run(jobs[0].run.run_dir).status == "failed"
    failure = read_run(jobs[0].run.run_dir).failure
    assert failure is not None
    assert failure["class"] == "timeout"
    assert (jobs[0].run.run_dir / "saved").exists() == (arm == "saves")


@pytest.mark.parametrize(
    ("arm", "status"), [("orphan", "finished"), ("orphan_then_killed", "failed")]
)
def test_what_a_run_leaves_behind_dies_with_it(
    tmp_path: Path, launch: Launch, arm: str, status: str
) -> None:
    job = make_jobs(tmp_path, arm)[0]
    assert launch([job])[0].status == status
    children = (job.run.run_dir / "children").read_text("ascii").split()
    wait_until(lambda: not any(is_alive(int(child)) for child in children), seconds=2)


def test_a_worker_finds_its_slot_and_nothing_on_standard_input(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    job = make_jobs(tmp_path, "tells_environment")[0]
    launch([job], plan=cpu_plan(1, threads=3))
    assert "CUDA_VISIBLE_DEVICES=None OMP_NUM_THREADS=3 MKL_NUM_THREADS=3" in log_of(job)
    assert "stdin='' session=True" in log_of(job)


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no torch here')")
    jobs = make_jobs(tmp_path, "fine")
    outcome = launch_jobs(jobs, LauncherConfig(), plan=cpu_plan(1), command=broken)[0]
    assert outcome.message.endswith("left with exit code 1 and no answer: no torch here")
    assert not jobs[0].run.run_dir.exists()


def test_a_process_that_the_system_refuses_makes_room_for_the_next(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")]
    begin = subprocess.Popen

    def refuse_first(*words: Any, **named: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return begin(*words, **named)

    monkeypatch.setattr("fseed.launch.process.subprocess.Popen", refuse_first)
    refused, other = launch(make_jobs(tmp_path, "fine", "fine"), slots=1)
    assert (refused.status, other.status) == ("failed", "finished")
    assert refused.message == "cannot start a process: Resource temporarily unavailable"


def test_a_folder_that_cannot_be_read_is_an_outcome(tmp_path: Path, launch: Launch) -> None:
    jobs = make_jobs(tmp_path / "results", "fine")
    (tmp_path / "results").write_text("in the way")
    (outcome,) = launch(jobs)
    assert outcome.status == "failed"
    assert "cannot write to" in outcome.message


def test_a_worker_that_is_stopped_at_its_end_waits_for_no_other_run(
    tmp_path: Path, launch: Launch
) -> None:
    (job,) = make_jobs(tmp_path, "finishes_when_asked")

    def press() -> None:
        wait_for_pid(job)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    started = time.monotonic()
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        launch([job], reuse=True, grace_seconds=60.0)
    thread.join()
    assert time.monotonic() - started < EXIT_SECONDS
    assert "1 finished" in launch.told


def test_a_worker_may_take_one_run_after_the_other(tmp_path: Path, launch: Launch) -> None:
    jobs = make_jobs(tmp_path, "fine", "fine", "segfault", "fine", "fine")
    outcomes = launch(jobs, slots=1, reuse=True)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0, 1, 0, 0]
    processes = [log_of(job) for job in jobs]
    assert processes[0] == processes[1]
    assert processes[3] == processes[4] != processes[0]
