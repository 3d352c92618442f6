"""A worker whose trainer does what the label of the arm says, in milliseconds."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fseed.errors import RunInterrupted, UserError
from fseed.heartbeat import beat
from fseed.launch import worker
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.training.interrupt import InterruptFlag
from tests.sweep.fake_training import fail, finish, start

FORGOTTEN: list[object] = []
SLEEPER = "import time; time.sleep(600)"


def done(run: PlannedRun) -> RunOutcome:
    finish(run)
    return RunOutcome("finished", str(run.run_dir), 0)


def fine(run: PlannedRun) -> RunOutcome:
    for step in range(1, 4):
        beat("training", step=step, num_steps=3, loss=1.5, tokens_per_second=1000.0)
    print(f"trained in {os.getpid()}")
    return done(run)


def forgets_a_file(run: PlannedRun) -> RunOutcome:
    FORGOTTEN.append((run.run_dir / "forgotten").open("wb"))
    return fine(run)


def slow(run: PlannedRun) -> RunOutcome:
    time.sleep(0.5)
    return done(run)


def segfault(run: PlannedRun) -> RunOutcome:
    start(run)
    ctypes.string_at(0)
    return done(run)


def leave(run: PlannedRun) -> RunOutcome:
    start(run)
    print("no reason given", file=sys.stderr)
    os._exit(0)


def leave_politely(run: PlannedRun) -> RunOutcome:
    start(run)
    sys.exit("a library wants to leave")


def bad_input(run: PlannedRun) -> RunOutcome:
    raise UserError("no such data")


def no_memory(run: PlannedRun) -> RunOutcome:
    fail(run, kind="oom")
    return RunOutcome("failed", "out of memory", 1)


def network_once(run: PlannedRun) -> RunOutcome:
    return _first_time(run, lambda: fail(run, kind="network")) or done(run)


def killed_once(run: PlannedRun) -> RunOutcome:
    return _first_time(run, lambda: os.kill(os.getpid(), signal.SIGKILL)) or done(run)


def finished_then_killed(run: PlannedRun) -> RunOutcome:
    finish(run)
    os.kill(os.getpid(), signal.SIGKILL)
    return done(run)


def saves(run: PlannedRun) -> RunOutcome:
    """Train until asked to stop, then save."""
    with InterruptFlag() as flag:
        start(run)
        (run.run_dir / "pid").write_text(str(os.getpid()))
        while not flag.requested:
            beat("training", step=1, num_steps=9)
            time.sleep(0.01)
    (run.run_dir / "saved").touch()
    fail(run, kind="interrupted")
    return RunOutcome("interrupted", str(RunInterrupted("stopped after step 1")), 130)


def finishes_when_asked(run: PlannedRun) -> RunOutcome:
    """Train until asked to stop, and be done by then."""
    with InterruptFlag() as flag:
        start(run)
        (run.run_dir / "pid").write_text(str(os.getpid()))
        while not flag.requested:
            time.sleep(0.01)
    return done(run)


def stubborn(run: PlannedRun) -> RunOutcome:
    """Train, and stop for nobody."""
    start(run)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (run.run_dir / "pid").write_text(str(os.getpid()))
    while True:
        beat("training", step=1, num_steps=9)
        time.sleep(0.01)


def hangs(run: PlannedRun) -> RunOutcome:
    """Stand still after a first step, with SIGTERM unheard: a dead driver."""
    start(run)
    beat("training", step=1, num_steps=9)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    time.sleep(600)
    return done(run)


def hangs_once(run: PlannedRun) -> RunOutcome:
    return _first_time(run, lambda: time.sleep(600)) or done(run)


def orphan(run: PlannedRun) -> RunOutcome:
    """Leave a child in a session of its own, which holds every pipe there is."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], close_fds=False, start_new_session=True
    )
    # a forked child holds the line to the launcher too
    fork = os.fork()
    if fork == 0:
        time.sleep(600)
        os._exit(0)
    start(run)
    (run.run_dir / "children").write_text(f"{child.pid} {fork}")
    return done(run)


def orphan_then_killed(run: PlannedRun) -> RunOutcome:
    orphan(run)
    (run.run_dir / "result.json").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
    return done(run)


def tells_environment(run: PlannedRun) -> RunOutcome:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    print(" ".join(f"{name}={os.environ.get(name)}" for name in names))
    print(f"stdin={sys.stdin.read()!r} session={os.getsid(0) == os.getpid()}")
    return done(run)


def _first_time(run: PlannedRun, action: Callable[[], object]) -> RunOutcome | None:
    mark = run.run_dir / "been_here"
    if mark.exists():
        return None
    start(run)
    mark.touch()
    action()
    return RunOutcome("failed", "the first time", 1)


def train(run: PlannedRun, position: str) -> RunOutcome:
    return globals()[run.arm](run)


if __name__ == "__main__":
    sys.exit(worker.main(train=train, preload=lambda: None))
