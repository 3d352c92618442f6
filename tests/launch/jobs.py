"""Jobs for the fake worker, and what the tests ask of them."""

import io
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fseed.config.schema import LauncherConfig
from fseed.launch.job import Job
from fseed.launch.pool import launch_jobs
from fseed.launch.slots import Slot, SlotPlan
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.plan import plan_run
from tests.configs import composer

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def plan_runs(root: Path, *arms: str) -> list[PlannedRun]:
    """Return a run per arm, each of another seed."""
    run = plan_run(composer().compose(["fs=no_fs", f"output.root={root}"])).run
    return [
        replace(
            run,
            arm=arm,
            config=replace(run.config, seed=seed),
            run_id=f"{seed:010x}",
            run_dir=run.run_dir.with_name(f"s{seed}-{seed:010x}"),
        )
        for seed, arm in enumerate(arms)
    ]


def make_jobs(root: Path, *arms: str) -> list[Job]:
    runs = plan_runs(root, *arms)
    return [Job(run, f"{index + 1}/{len(runs)}") for index, run in enumerate(runs)]


def cpu_plan(number: int, *, threads: int = 1) -> SlotPlan:
    return SlotPlan([Slot(index, threads) for index in range(number)], f"{number} slots")


class Launch:
    """Launch jobs with the fake worker and keep what was told."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def __call__(
        self, jobs: list[Job], *, slots: int = 2, plan: SlotPlan | None = None, **options: object
    ) -> list[RunOutcome]:
        self.text = io.StringIO()
        return launch_jobs(
            jobs,
            LauncherConfig(**{"retries": 0, "grace_seconds": 0.5, **options}),  # type: ignore[arg-type]
            plan=plan or cpu_plan(slots),
            command=FAKE_WORKER,
            console=Console(file=self.text, width=200),
        )

    @property
    def told(self) -> str:
        return self.text.getvalue()


class Clock:
    """A clock that goes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def log_of(job: Job) -> str:
    return (job.run.run_dir / "output.log").read_text("utf-8")


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that waits for its parent does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def wait_for_pid(job: Job) -> int:
    path = job.run.run_dir / "pid"
    wait_until(lambda: path.exists() and path.read_text("ascii"))
    return int(path.read_text("ascii"))


def kill_quietly(process: int) -> None:
    if is_alive(process):
        os.kill(process, 9)
