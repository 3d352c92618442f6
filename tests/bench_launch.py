"""Launchers side by side: runs an hour, overhead of a run, and how fast finished runs are skipped.

Run with ``python -m tests.bench_launch``. Each row is a sweep of nano runs in a fresh folder; the
overhead is what a run costs beside its steps and scorings, as its own records time them. On a busy
machine read the processor seconds, not the clock.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fseed.compose.loader import Composer, hydra_session
from fseed.launch.threads import THREAD_VARIABLES, count_cores
from fseed.records import read_metrics
from fseed.sweep.plan import plan_sweep
from tests.sweep.fake_training import finish

LAUNCHERS = {
    "sequential, all cores": ("launcher=sequential",),
    "sequential, 1 thread": ("launcher=sequential", "trainer.num_threads=1"),
    "slots, 1": ("launcher=slots", "launcher.slots=1", "trainer.num_threads=1"),
    "slots, 2": ("launcher=slots", "launcher.slots=2", "trainer.num_threads=1"),
    "slots, 2, resident": (
        *("launcher=slots", "launcher.slots=2", "trainer.num_threads=1", "launcher.reuse=true"),
    ),
}
SECONDS_OF_A_SWEEP = 3.0  # start of the command and its table, left out of a run's overhead


@dataclass(frozen=True)
class Measured:
    """One sweep: seconds on the clock, of the processor, and what its runs recorded."""

    wall: float
    processor: float
    recorded: float
    num_runs: int


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder for results."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def run_sweep(root: Path, words: Sequence[str]) -> tuple[float, float]:
    """Run one command line; return its seconds on the clock and of the processor."""
    environment = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    command = [sys.executable, "-m", "fseed.run", *words, "-m", "trainer.progress=false"]
    before, started = _processor_seconds(), time.perf_counter()
    subprocess.run(
        command, env=environment | {"FSEED_OUTPUTS": str(root)}, capture_output=True, check=True
    )
    return time.perf_counter() - started, _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(words: Sequence[str], *, num_runs: int, num_steps: int) -> Measured:
    """Run ``num_runs`` plain nano runs of ``num_steps`` steps."""
    seeds = ",".join(str(seed) for seed in range(num_runs))
    sweep = ("task=hotpot", "fs=no_fs", f"seed={seeds}", f"budget.steps={num_steps}")
    with folder() as root:
        wall, processor = run_sweep(root, (*sweep, *words))
        paths = list(root.rglob("metrics.jsonl"))
        recorded = [sum(row["seconds"] for row in read_metrics(path)[0]) for path in paths]
    return Measured(wall, processor, sum(recorded), len(paths))


def scaling_table(num_runs: int, num_steps: int, names: Sequence[str]) -> Table:
    """Return launcher x runs an hour, and the overhead of a run, in seconds."""
    title = f"{num_runs} nano runs of {num_steps} steps (hotpot), {count_cores()} cores"
    columns = ("launcher", "clock", "processor", "runs/hour", "speed", "overhead of a run")
    table = Table(*columns, title=title)
    found: dict[str, Measured] = {}
    for name in names:
        found[name] = one = measure(LAUNCHERS[name], num_runs=num_runs, num_steps=num_steps)
        base = found.get("slots, 1", one)
        slots = 2 if "slots, 2" in name else 1
        overhead = ((one.wall - SECONDS_OF_A_SWEEP) * slots - one.recorded) / one.num_runs
        table.add_row(
            *(name, f"{one.wall:.1f} s", f"{one.processor:.1f} s"),
            f"{3600 * one.num_runs / one.wall:.0f}",
            f"{base.wall / one.wall:.2f} x one slot" if base is not one else "",
            f"{overhead:.1f} s",
        )
    return table


def skip_row(num_runs: int) -> str:
    """Return how long a sweep over ``num_runs`` finished runs takes, its table included."""
    seeds = ",".join(str(seed) for seed in range(num_runs // 2))
    with folder() as root:
        with hydra_session() as hydra:
            composer = Composer(hydra.config_loader)
            words = [["fs=scalar_l10", f"seed={seed}"] for seed in range(num_runs // 2)]
            points = [composer.compose([*each, f"output.root={root}"]) for each in words]
            plan = plan_sweep(points, compose=composer.compose)
        for entry in plan.entries:
            finish(entry.run)
        dry = ("fs=scalar_l10", f"seed={seeds}", "sweep.dry_run=true")
        planned = run_sweep(root, dry)
        whole = run_sweep(root, dry[:2])
    return (
        f"{len(plan.entries)} finished runs: planned in {planned[0]:.1f} s "
        f"({planned[1]:.1f} s processor), with the table {whole[0]:.1f} s ({whole[1]:.1f} s)"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8, help="runs of each sweep")
    parser.add_argument("--steps", type=int, default=40, help="steps of each run")
    parser.add_argument("--only", nargs="*", choices=LAUNCHERS, default=list(LAUNCHERS))
    parser.add_argument("--finished", type=int, default=1000, help="finished runs to skip; 0: none")
    options = parser.parse_args()
    if options.only:
        Console().print(scaling_table(options.runs, options.steps, options.only))
    if options.finished:
        print(skip_row(options.finished))


if __name__ == "__main__":
    main()
