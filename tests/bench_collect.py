"""How long ``python -m fseed.collect`` takes on many runs: first reading, again, after new runs.

``python -m tests.bench_collect [--runs 10000] [--examples 100] [--root DIR]``

Makes synthetic runs with the real writers in a temporary folder (or in ``--root``, which is kept
and used again), then runs the command in processes of its own and prints seconds and peak memory.
Files are in the page cache throughout: the disk is not part of the figure.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from fseed.results.index import CACHE_NAME
from tests.results.builders import RunSpec, finish_run, random_spec

TASKS = ("hotpot", "arc", "mbpp", "protein_ss")
NUM_SEEDS = 25


def specs(num_runs: int, *, num_examples: int) -> Iterator[RunSpec]:
    """Yield ``num_runs`` runs: four tasks, 25 seeds, as many arms as it takes, baselines first."""
    for index in range(num_runs):
        task, seed = TASKS[index % len(TASKS)], index // len(TASKS) % NUM_SEEDS
        number = index // (len(TASKS) * NUM_SEEDS)
        arm = f"arm{number}" if number else "no_fs"
        changes = {"task.name": task, "lstart": number}
        effect = 0.1 * (number % 3 == 1)
        # the name draws the scores: no two tasks have the same
        spec = random_spec(
            arm=f"{task} {arm}", seed=seed, num_examples=num_examples, effect=effect, **changes
        )
        yield spec.with_(arm=arm)


def write_part(part: Sequence[RunSpec], *, root: Path) -> None:
    """Write runs without syncing each of them to the disk."""
    os.fsync = lambda _: None
    for spec in part:
        finish_run(root, spec)


def write_runs(root: Path, *, num_runs: int, num_examples: int) -> None:
    """Write the runs with two processes."""
    wanted = list(specs(num_runs, num_examples=num_examples))
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(write_part, root=root), [wanted[0::2], wanted[1::2]]))


def measure(root: Path, *arguments: str) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds of all processes and peak GiB of the largest one."""
    command = [sys.executable, "-m", "fseed.collect", str(root), *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"collect ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def report(root: Path, name: str, *arguments: str) -> None:
    """Measure once and print one line."""
    seconds, cpu, peak = measure(root, *arguments)
    print(f"{name:<36} {seconds:7.2f} s  {cpu:7.2f} s CPU  peak {peak:.2f} GiB", flush=True)


def main() -> None:
    """Make the runs, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--root", type=Path, help="folder to keep the runs in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root if options.root is not None else Path(folder) / "outputs"
        if not root.exists():
            write_runs(root, num_runs=options.runs, num_examples=options.examples)
        print(f"{options.runs:,} runs of {options.examples} examples, {os.cpu_count()} cores")
        shutil.rmtree(root / Path(CACHE_NAME).parent, ignore_errors=True)
        report(root, "nothing kept (--no-cache)", "--no-cache")
        report(root, "first, fills the cache")
        report(root, "again, nothing changed")
        for spec in specs(20, num_examples=options.examples):
            finish_run(root, spec.with_(sweep="later", changes={**spec.changes, "lstart": -1}))
        report(root, "after 20 new runs")
        report(root, "again, printed only (--format none)", "--format", "none")


if __name__ == "__main__":
    main()
