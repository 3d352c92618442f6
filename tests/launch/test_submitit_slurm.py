"""Slurm through submitit: real job scripts, run by a stand-in for Slurm on this machine."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import submitit
from submitit.slurm.slurm import SlurmJob

from fseed.config.schema import LauncherConfig
from fseed.launch import submitit_pool
from fseed.launch.job import Job
from fseed.launch.submitit_pool import explain_state, launch_jobs
from fseed.planned_run import RunOutcome
from fseed.records import read_run
from tests.launch.jobs import make_jobs, wait_for_pid
from tests.launch.submitted import FakeSubmittedRun

FAKE = Path(__file__).with_name("fake_slurm.py")
ROOT = Path(__file__).resolve().parents[2]


class Slurm:
    """A stand-in for Slurm, and what it was asked to do."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home.parent / "submitted"

    def launch(self, jobs: list[Job], **options: object) -> list[RunOutcome]:
        executor = submitit.AutoExecutor(folder=self.folder / "%j", slurm_max_num_timeout=5)
        executor.update_parameters(
            timeout_min=60, slurm_partition="short", slurm_array_parallelism=2, gpus_per_node=1
        )
        named = {"retries": 1, "grace_seconds": 20.0, **options}
        return launch_jobs(jobs, LauncherConfig(**named), executor=executor)  # type: ignore[arg-type]

    @property
    def scripts(self) -> list[str]:
        return [path.read_text() for path in sorted(self.home.glob("*.sh"))]

    def told(self, task: str, what: str) -> str:
        return (self.home / f"{task}.{what}").read_text()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    programs, home = tmp_path / "bin", tmp_path / "slurm"
    programs.mkdir()
    home.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        (programs / name).symlink_to(FAKE)
    FAKE.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(submitit_pool, "SubmittedRun", FakeSubmittedRun)
    # what one test asked about jobs 1, 2, ... is not true of the next
    SlurmJob.watcher.clear()
    return Slurm(home)


def when_running(job: Job, action: Callable[[int], None]) -> threading.Thread:
    thread = threading.Thread(target=lambda: action(wait_for_pid(job)))
    thread.start()
    return thread


@pytest.mark.slow
def test_a_sweep_is_one_array_with_its_bound(tmp_path: Path, slurm: Slurm) -> None:
    jobs = make_jobs(tmp_path / "runs", "fine", "no_memory", "fine")
    outcomes = slurm.launch(jobs)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert [read_run(job.run.run_dir).status for job in jobs] == ["finished", "failed", "finished"]
    (script,) = slurm.scripts
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, flags=re.MULTILINE))
    wanted = {"array": "0-2%2", "time": "60", "signal": "USR2@90", "partition": "short"}
    assert asked.items() >= (wanted | {"gpus-per-node": "1", "open-mode": "append"}).items()
    assert sorted(path.name for path in slurm.home.glob("width-*")) == ["width-1", "width-2"]
    assert "trained in" in (jobs[0].run.run_dir / "output.log").read_text()


@pytest.mark.slow
def test_a_preempted_job_saves_before_it_is_requeued(tmp_path: Path, slurm: Slurm) -> None:
    jobs = make_jobs(tmp_path / "runs", "preempts_itself", "fine")
    assert [outcome.status for outcome in slurm.launch(jobs)] == ["finished", "finished"]
    assert (slurm.told("1_0", "starts"), slurm.told("1_1", "starts")) == ("2", "1")
    assert len(slurm.scripts) == 1


@pytest.mark.slow
def test_slurm_preempts_with_two_signals(tmp_path: Path, slurm: Slurm) -> None:
    """SIGTERM comes first, and alone it would mean the end."""
    jobs = make_jobs(tmp_path / "runs", "saves_once", "fine")
    thread = when_running(jobs[0], lambda _: SlurmJob(slurm.folder / "%j", "1_0")._interrupt())
    outcomes = slurm.launch(jobs)
    thread.join()
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert slurm.told("1_0", "starts") == "2"


@pytest.mark.slow
def test_a_cancelled_job_saves_and_is_not_started_again(tmp_path: Path, slurm: Slurm) -> None:
    jobs = make_jobs(tmp_path / "runs", "saves_once", "fine")
    thread = when_running(jobs[0], lambda _: SlurmJob(slurm.folder / "%j", "1_0").cancel())
    outcomes = slurm.launch(jobs, retries=3)
    thread.join()
    assert [outcome.status for outcome in outcomes] == ["interrupted", "finished"]
    assert (jobs[0].run.run_dir / "saved").exists()
    assert slurm.told("1_0", "starts") == "1"


def test_what_sbatch_refuses_is_a_failed_run(tmp_path: Path, slurm: Slurm) -> None:
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.unlink()
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    (outcome,) = slurm.launch(make_jobs(tmp_path / "runs", "fine"))
    assert outcome.status == "failed"
    assert outcome.message == "not started: sbatch: error: invalid partition specified"


@pytest.mark.parametrize(
    ("state", "ending", "status"),
    [
        ("NODE_FAIL", "node_lost", "failed"),
        ("OUT_OF_MEMORY", "out_of_memory", "failed"),
        ("TIMEOUT", "timed_out", "failed"),
        ("FAILED", "exited", "failed"),
        ("CANCELLED by 1000", "exited", "interrupted"),
    ],
)
def test_states_of_slurm_are_endings(state: str, ending: str, status: str) -> None:
    ended = explain_state(state, log="job.err")
    assert (ended.ending.value, ended.outcome.status) == (ending, status)
