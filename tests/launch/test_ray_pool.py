"""Runs on Ray, with a stand-in for Ray itself; the real one: test_ray_cluster.py."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.config.schema import Accelerator, LauncherConfig
from fseed.errors import UserError
from fseed.launch import cluster_run, endings, ray_pool
from fseed.launch.endings import Rule
from fseed.launch.job import Job
from fseed.launch.ray_pool import RayTasks, Share, launch_jobs, share_of
from fseed.launch.ray_worker import Parcel, Returned, run_parcel
from fseed.planned_run import RunOutcome
from fseed.records import read_run
from fseed.sweep.lock import find_lock_holder, run_lock
from tests.launch import fake_worker
from tests.launch.fake_ray import (
    FakeRay,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)
from tests.launch.jobs import make_jobs
from tests.sweep.fake_training import start

KNOCK = ray_pool._knock


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(cluster_run, "train", fake_worker.train)
    monkeypatch.setattr(cluster_run, "preload", lambda: None)
    monkeypatch.setattr(ray_pool, "_knock", lambda _: None)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    for name in (*names, *ray_pool.ENVIRONMENT):
        monkeypatch.setenv(name, "1")
    return fake


def launch(jobs: list[Job], **options: object) -> list[RunOutcome]:
    named = {"retries": 1, "grace_seconds": 1.0, **options}
    return launch_jobs(jobs, LauncherConfig(**named))  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [True, False])
def test_every_run_leaves_its_records_whether_files_are_shared_or_not(
    tmp_path: Path, ray: FakeRay, shared: bool
) -> None:
    jobs = make_jobs(tmp_path, "fine", "no_memory", "fine")
    outcomes = launch(jobs, slots=2, shared_files=shared)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert [read_run(job.run.run_dir).status for job in jobs] == ["finished", "failed", "finished"]
    assert ray.most_running == 2
    assert not any((job.run.run_dir / ".lock").exists() for job in jobs)


def test_a_cluster_of_this_machine_is_quiet_and_ends_with_the_sweep(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ray_pool.ENVIRONMENT:
        monkeypatch.delenv(name)
    launch(make_jobs(tmp_path, "fine"), slots=3, cpus_per_run=0.5)
    assert (ray.log, ray.is_up) == (["init", "fine", "shutdown"], False)
    task = ray.options.pop("task")
    assert ray.options == {
        **{"address": "local", "num_cpus": 2, "include_dashboard": False},
        **{"log_to_driver": False, "logging_level": "ERROR"},
    }
    assert task == {"max_calls": 1, "max_retries": 0, "num_cpus": 0.5, "num_gpus": 0.0}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_an_existing_cluster_is_joined_by_its_address(tmp_path: Path, ray: FakeRay) -> None:
    launch(make_jobs(tmp_path, "fine"), ray_address="head:6379", reuse=True)
    assert (ray.options["address"], "num_cpus" in ray.options) == ("head:6379", False)
    assert ray.options["task"]["max_calls"] == 0


def test_a_connection_that_was_there_before_stays(tmp_path: Path, ray: FakeRay) -> None:
    ray.is_up = True
    launch(make_jobs(tmp_path, "fine"))
    assert (ray.log, ray.is_up) == (["fine"], True)


@pytest.mark.parametrize("error", [WorkerCrashedError("gone"), NodeDiedError("gone")])
def test_a_lost_worker_is_replaced(tmp_path: Path, ray: FakeRay, error: Exception) -> None:
    ray.script = {"slow": [error]}
    outcomes = launch(make_jobs(tmp_path, "fine", "slow"))
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert ray.log.count("slow") == 2


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_whose_workers_are_always_lost_has_failed(
    tmp_path: Path, ray: FakeRay, shared: bool
) -> None:
    ray.script = {"slow": [WorkerCrashedError(), WorkerCrashedError()]}
    jobs = make_jobs(tmp_path, "slow", "fine")
    start(jobs[0].run)
    lost, other = launch(jobs, shared_files=shared)
    assert (lost.status, lost.exit_code, other.status) == ("failed", 1, "finished")
    assert lost.message == "the Ray worker or its node was lost (WorkerCrashedError)"
    assert ray.log.count("slow") == 2
    record = read_run(jobs[0].run.run_dir)
    assert record.failure is not None
    assert (record.status, record.failure["class"]) == ("failed", "error")


@pytest.mark.parametrize(
    ("error", "failure", "message"),
    [
        (OutOfMemoryError("too much"), "oom", "ran out of memory: too much"),
        (RayTaskError("ModuleNotFoundError: No module named 'fseed'"), "error", "named 'fseed'"),
    ],
)
def test_what_would_happen_again_is_not_tried_again(
    tmp_path: Path, ray: FakeRay, error: Exception, failure: str, message: str
) -> None:
    ray.script = {"fine": [error]}
    (job,) = make_jobs(tmp_path, "fine")
    start(job.run)
    (outcome,) = launch([job], retries=5)
    assert (outcome.status, message in outcome.message) == ("failed", True)
    record = read_run(job.run.run_dir)
    assert record.failure is not None
    assert record.failure["class"] == failure


def test_a_run_that_another_process_holds_is_left_alone(tmp_path: Path, ray: FakeRay) -> None:
    held, free = make_jobs(tmp_path, "fine", "slow")
    with run_lock(held.run.run_dir):
        outcomes = launch([held, free], shared_files=False)
    assert [outcome.status for outcome in outcomes] == ["skipped", "finished"]
    assert ray.log == ["init", "slow", "shutdown"]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("slots", [1, 3])
def test_what_is_refused_stops_no_other_run(
    tmp_path: Path, ray: FakeRay, slots: int, shared: bool
) -> None:
    """Handed over alone or with others, before it and after it."""
    ray.refused = {"slow": RuntimeError("Traceback:\n  the client has gone")}
    jobs = make_jobs(tmp_path, "fine", "slow", "fine")
    start(jobs[1].run)
    first, refused, last = launch(jobs, slots=slots, shared_files=shared, retries=5)
    assert (first.status, last.status, ray.log.count("fine")) == ("finished", "finished", 2)
    assert (refused.status, refused.message) == ("failed", "not started: the client has gone")
    assert [read_run(job.run.run_dir).status for job in jobs] == ["finished", "failed", "finished"]
    assert find_lock_holder(jobs[1].run.run_dir) is None


def test_what_is_held_elsewhere_is_told_at_once(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "POLL_SECONDS", 4.0)
    (held,) = make_jobs(tmp_path, "fine")
    started = time.monotonic()
    with run_lock(held.run.run_dir):
        (outcome,) = launch([held], shared_files=False)
    assert outcome.status == "skipped"
    assert time.monotonic() - started < 3.0


def test_waiting_for_another_try_is_quiet(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(endings.FAILURE_RULES, "network", Rule(True, "it may answer", 0.4))
    monkeypatch.setattr(ray_pool, "POLL_SECONDS", 0.1)
    polls: list[int] = []
    poll = RayTasks.poll
    monkeypatch.setattr(RayTasks, "poll", lambda tasks: polls.append(1) or poll(tasks))
    (outcome,) = launch(make_jobs(tmp_path, "network_once"))
    assert (outcome.status, ray.log.count("network_once")) == ("finished", 2)
    # two ends, and what lies between them
    assert 3 <= len(polls) <= 10


def test_a_run_that_is_away_is_held(tmp_path: Path, ray: FakeRay) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    holders: list[int | None] = []
    ray.on_wait = lambda _: holders.append(find_lock_holder(job.run.run_dir))
    launch([job], shared_files=False)
    assert holders == [os.getpid()]
    assert find_lock_holder(job.run.run_dir) is None


def test_a_process_that_takes_no_other_run_costs_no_retry(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "POLL_SECONDS", 0.0)
    refusals = [Returned(None), Returned(None)]

    def refuse_twice(parcel: Parcel) -> Returned:
        return refusals.pop() if refusals else run_parcel(parcel)

    monkeypatch.setattr(ray_pool, "run_parcel", refuse_twice)
    (job,) = make_jobs(tmp_path, "fine")
    (outcome,) = launch([job], retries=0, shared_files=False)
    assert (outcome.status, ray.log.count("fine")) == ("finished", 3)


def test_ctrl_c_interrupts_every_run_and_ends_the_cluster(tmp_path: Path, ray: FakeRay) -> None:
    def press(fake: FakeRay) -> None:
        if not fake.cancelled:
            os.kill(os.getpid(), signal.SIGINT)

    ray.on_wait = press
    jobs = make_jobs(tmp_path, "fine", "slow", "bad_input")
    with pytest.raises(KeyboardInterrupt):
        launch(jobs, slots=2)
    assert ray.cancelled == {"slow": False}
    assert (ray.log, ray.is_up) == (["init", "fine", "slow", "shutdown"], False)


def test_no_ray_is_one_line_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ray_pool.ENVIRONMENT:
        monkeypatch.setenv(name, "0")
    with pytest.raises(UserError, match=r"pip install 'fseed\[ray\]'"):
        launch(make_jobs(tmp_path, "fine"))
    assert not (tmp_path / "default").exists()


def test_no_cluster_is_one_line(tmp_path: Path, ray: FakeRay) -> None:
    ray.refuses = ConnectionError("nobody answers at head:6379")
    with pytest.raises(UserError, match=r"ray_address=head:6379: no Ray cluster: nobody answers"):
        launch(make_jobs(tmp_path, "fine"), ray_address="head:6379")


@contextmanager
def listening() -> Iterator[int]:
    """Yield a port of this machine where somebody listens until the end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nobody_listens_ray_is_not_asked(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """It would try for minutes."""
    monkeypatch.setattr(ray_pool, "_knock", KNOCK)
    jobs = make_jobs(tmp_path, "fine")
    with listening() as port:
        address = f"{scheme}127.0.0.1:{port}"
        assert launch(jobs, ray_address=address)[0].status == "finished"
    ray.log.clear()
    with pytest.raises(UserError, match=rf"ray_address={address}: no Ray cluster: .*refused"):
        launch(jobs, ray_address=address)
    assert ray.log == []
    assert launch(jobs, ray_address="auto")[0].status == "skipped"


def test_what_no_node_has_is_refused(tmp_path: Path, ray: FakeRay) -> None:
    with pytest.raises(UserError, match=r"takes 3 CPU and 0 GPU .* no node .*: 2 CPU, 0 GPU"):
        launch(make_jobs(tmp_path, "fine"), cpus_per_run=3.0)
    assert ray.log == ["init", "shutdown"]


def test_a_run_takes_what_its_configuration_uses(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    trainer = replace(job.run.config.trainer, num_threads=4, accelerator=Accelerator.gpu)
    config = replace(job.run.config, trainer=trainer)
    wide = Job(replace(job.run, config=config), "1/1")
    assert share_of([job], LauncherConfig()) == Share(1.0, 0.0)
    assert share_of([job, wide], LauncherConfig()) == Share(4.0, 1.0)
    asked = LauncherConfig(cpus_per_run=2.0, gpus_per_run=0.5)
    assert share_of([wide], asked) == Share(2.0, 0.5)
