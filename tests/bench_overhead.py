"""What a run costs beside its steps and scoring, per launcher, on runs of one step.

``python -m tests.bench_overhead [--runs N] [--cases NAME ...] [--words OVERRIDE ...]``. The
overhead of a run is the time that its slot spends on it, from the end of the run before to its own
``result.json``, less what the run records as spent in optimiser steps and scoring
(``wall_seconds``). The first run of each slot only starts the clock. ``command`` is the whole
command, planning and table included; ``CPU`` what all its processes computed, which a busy machine
does not stretch. ``tests/bench_launch.py`` compares runs that train for longer.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fseed.records import read_run

WORDS = (
    *("task=rightcopy", "fs=no_fs", "budget.steps=1", "budget.batch_size=2"),
    *("data.num_train=8", "data.num_validation=4", "trainer.progress=false"),
    *("trainer.num_threads=1", "sweep.name=bench"),
)
CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "sequential": (1, ()),
    "slots 1 fresh": (1, ("launcher=slots", "launcher.slots=1")),
    "slots 1 resident": (1, ("launcher=slots", "launcher.slots=1", "launcher.reuse=true")),
    "slots 2 fresh": (2, ("launcher=slots", "launcher.slots=2")),
    "slots 2 resident": (2, ("launcher=slots", "launcher.slots=2", "launcher.reuse=true")),
    "submitit_local": (1, ("launcher=submitit_local", "launcher.slots=1")),
    "ray 2 fresh": (2, ("launcher=ray", "launcher.slots=2")),
    "ray 2 resident": (2, ("launcher=ray", "launcher.slots=2", "launcher.reuse=true")),
}


@dataclass(frozen=True)
class Rate:
    """What one command did; times in seconds, a value a run in the order of their ends."""

    slots: int
    finished: list[float]  # when each run had its result
    recorded: list[float]  # steps and scoring
    tokens_per_second: list[float]
    command_seconds: float
    cpu_seconds: float

    @property
    def seconds_per_run(self) -> float:
        """Mean time between two results, once every slot has had its first."""
        late = self.finished[self.slots - 1 :]
        return (late[-1] - late[0]) / (len(late) - 1)

    @property
    def overhead(self) -> float:
        """Seconds of a slot a run, beyond steps and scoring."""
        later = self.recorded[self.slots :]
        return self.seconds_per_run * self.slots - sum(later) / len(later)


def run_sweep(words: Sequence[str], *, slots: int, folder: Path) -> Rate:
    """Run one sweep command and read its rate off the records."""
    before, started = _children_seconds(), time.monotonic()
    command = [sys.executable, "-m", "fseed.run", "-m", *words, f"output.root={folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(words)}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    seconds = time.monotonic() - started
    results = sorted(folder.rglob("result.json"), key=lambda path: path.stat().st_mtime_ns)
    found: list[dict[str, Any]] = [read_run(path.parent).result or {} for path in results]
    return Rate(
        slots=slots,
        finished=[path.stat().st_mtime_ns / 1e9 for path in results],
        recorded=[result["wall_seconds"] for result in found],
        tokens_per_second=[result["tokens_per_second"] for result in found],
        command_seconds=seconds,
        cpu_seconds=_children_seconds() - before,
    )


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def render(rates: dict[str, Rate], *, num_runs: int) -> Table:
    """Return the table of all commands."""
    title = f"{num_runs} runs each; load of the machine at the end {os.getloadavg()[0]:.1f}"
    table = Table(title=title, title_justify="left")
    table.add_column("launcher")
    for name in ("runs/hour", "overhead s/run", "steps s/run", "command s", "CPU s/run"):
        table.add_column(name, justify="right")
    for name, rate in rates.items():
        table.add_row(
            name,
            f"{3600 / rate.seconds_per_run:.0f}",
            f"{rate.overhead:.2f}",
            f"{sum(rate.recorded) / num_runs:.2f}",
            f"{rate.command_seconds:.1f}",
            f"{rate.cpu_seconds / num_runs:.2f}",
        )
    return table


def main() -> None:
    """Measure the cases one after the other."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=12, help="runs of each command, at least 4")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES)[:5])
    parser.add_argument("--words", nargs="*", default=[], help="overrides for every command")
    options = parser.parse_args()
    seeds = "seed=" + ",".join(str(seed) for seed in range(options.runs))
    rates = {}
    for name in options.cases:
        slots, launcher = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            words = [*WORDS, seeds, *options.words, *launcher]
            rates[name] = run_sweep(words, slots=slots, folder=Path(folder))
    Console(width=110).print(render(rates, num_runs=options.runs))


if __name__ == "__main__":
    main()
