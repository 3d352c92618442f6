"""A submitit job whose trainer does what the label of the arm says, in milliseconds."""

import os
import signal
from dataclasses import dataclass

from fseed.heartbeat import beat
from fseed.launch import cluster_run
from fseed.launch.cluster_run import Ended
from fseed.launch.submitit_job import SubmittedRun
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.training.interrupt import InterruptFlag
from tests.launch import fake_worker
from tests.sweep.fake_training import fail, start


def saves_once(run: PlannedRun) -> RunOutcome:
    """Train until asked to stop and save; the next time, finish."""
    if (run.run_dir / "saved").exists():
        return fake_worker.done(run)
    return fake_worker.saves(run)


def preempts_itself(run: PlannedRun) -> RunOutcome:
    """Get submitit's signal in the middle of a step, and save after the step."""
    if (run.run_dir / "saved").exists():
        return fake_worker.done(run)
    with InterruptFlag() as flag:
        start(run)
        os.kill(os.getpid(), signal.SIGUSR2)
        beat("training", step=1, num_steps=9)
        assert flag.requested
        # what must have happened before the job is requeued
        (run.run_dir / "saved").touch()
    fail(run, kind="interrupted")
    return RunOutcome("interrupted", "stopped after step 1", 130)


ARMS = {"saves_once": saves_once, "preempts_itself": preempts_itself}


def train(run: PlannedRun, position: str) -> RunOutcome:
    return ARMS[run.arm](run) if run.arm in ARMS else fake_worker.train(run, position)


@dataclass
class FakeSubmittedRun(SubmittedRun):
    """The real job around the stand-in for the trainer."""

    def __call__(self) -> Ended:
        cluster_run.train, cluster_run.preload = train, lambda: None
        return super().__call__()
