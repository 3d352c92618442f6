"""A worker that stays: run after run in one process, none of which finds a trace of another.

Code, kernels and the examples of the last data set stay in memory. All other state is put back
after every run and compared with what it was before; where they differ, or the process has grown,
it takes no other run and the launcher starts a fresh one.
"""

import atexit
import gc
import sys
from pathlib import Path

from fseed.launch.state_guard import State, find_differences, read_state, restore_state
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.execute import Train
from fseed.worker_facts import telling

MAX_RUNS = 500
# what a process may hold more than after its first run; code that is loaded later is small
MAX_GROWTH_GIB = 2.0
STATUS = Path("/proc/self/status")


def preload() -> None:
    """Load what every run needs, before the state is read for the first time."""
    import fseed.training.runner  # noqa: F401 (loaded for the runs to come)

    # what is loaded now lives as long as the process: no collection walks through it again
    gc.collect()
    gc.freeze()
    # some libraries complain at exit about what nobody has collected
    atexit.register(gc.unfreeze)


class Resident:
    """Train runs one after the other for as long as each leaves the process as it found it.

    ``leaves`` says in a few words why the worker takes no other run; empty while it may.
    """

    def __init__(self, train: Train, *, is_resident: bool = True) -> None:
        """Wrap ``train``; one that is not resident tells the state of a fresh process."""
        self.train, self.is_resident = train, is_resident
        self.num_runs, self.leaves = 0, ""
        self._resident_gib: float | None = None

    def __call__(self, run: PlannedRun, position: str) -> RunOutcome:
        """Train one run; what it leaves behind goes to standard error, the run's output."""
        before = read_state()
        facts = {
            "resident": self.is_resident,
            "jobs_before": self.num_runs,
            "state": before.digest,
        }
        self.num_runs += 1
        # unless it is taken back: whatever ends the run may hold anything
        self.leaves = "the run did not finish"
        with telling(facts):
            outcome = self.train(run, position)
        if self.is_resident and outcome.status == "finished":
            self._look_back(before)
        return outcome

    def _look_back(self, before: State) -> None:
        _free()
        restore_state(before)
        self.leaves = self._find_reason(before)
        if self.leaves:
            print(f"this process takes no other run: {self.leaves}", file=sys.stderr, flush=True)

    def _find_reason(self, before: State) -> str:
        differences = find_differences(before, read_state())
        if differences:
            return f"the run has changed {'; '.join(differences)}"
        if self.num_runs >= MAX_RUNS:
            return f"it has done {MAX_RUNS} runs"
        held = resident_gib()
        if held is None:
            return ""
        if self._resident_gib is None:
            self._resident_gib = held
        grown = held - self._resident_gib
        return f"it has grown by {grown:.1f} GiB" if grown > MAX_GROWTH_GIB else ""


def _free() -> None:
    """Give back what the run held; torch is there when there is something to give back."""
    if "torch" in sys.modules:
        from fseed.training.memory import free_memory

        free_memory()
    else:
        gc.collect()


def resident_gib() -> float | None:
    """Return the memory of this process in GiB, None outside Linux."""
    try:
        lines = STATUS.read_text("ascii").splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    value = next(found, None)
    return None if value is None else int(value) / 2**20
