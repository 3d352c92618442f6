"""Runs that share a GPU against runs one after the other, on the GPU of this machine.

``python -m tests.bench_packing [--runs N] [--packed N ...] [--steps N] [OVERRIDE ...]``, such as
``data=local data.root=DIR model.vocab_file=FILE``. What a run takes is measured first, as a sweep
with ``launcher.runs_per_gpu=null`` does it. ``tokens/s`` is the sum over the runs that train at the
same time; ``peak GiB`` what the driver counted at most, above what was in use before.
"""

import argparse
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.table import Table

from fseed.config.schema import LauncherConfig
from fseed.launch.gpu_memory import read_gpu_memory
from fseed.launch.gpus import find_gpus
from fseed.launch.job import Job
from fseed.launch.packing import choose_runs_per_gpu
from fseed.sweep.plan import plan_run
from tests.bench_overhead import Rate, run_sweep
from tests.configs import compose

WORDS = (
    *("task=hotpot_2048", "model=rwkv7_0b1", "trainer=bf16", "fs=no_fs", "budget.batch_size=2"),
    *("budget.eval_batch_size=2", "budget.generate=false", "data.num_train=256"),
    *("data.num_validation=4", "trainer.progress=false", "sweep.name=bench"),
)


class PeakUse:
    """Context that asks the driver for the memory in use; ``gib`` is the peak above the start."""

    def __init__(self, gpu: str, *, every_seconds: float = 0.5) -> None:
        """Watch ``gpu``."""
        self.gpu, self.every_seconds, self.gib = gpu, every_seconds, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakUse":
        """Take the start and begin to watch."""
        self._before = read_gpu_memory(self.gpu).free_gib
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.every_seconds):
            self.gib = max(self.gib, self._before - read_gpu_memory(self.gpu).free_gib)


def measure_packing(words: Sequence[str], *, num_runs: int, console: Console) -> None:
    """Print what a sweep of these runs would decide, and how long it took to find out."""
    with tempfile.TemporaryDirectory() as folder:
        points = [
            compose(*words, f"seed={seed}", f"output.root={folder}") for seed in range(num_runs)
        ]
        jobs = [Job(plan_run(point).run, str(number)) for number, point in enumerate(points)]
        started = time.monotonic()
        choose_runs_per_gpu(jobs, LauncherConfig(), say=console.print)
        console.print(f"measured in {time.monotonic() - started:.0f} s")


def render(rates: Sequence[tuple[int, Rate, float]]) -> Table:
    """Return the table; ratios to the first row."""
    table = Table(title=f"{len(rates[0][1].finished)} runs on one GPU", title_justify="left")
    for name in ("at a time", "runs/hour", "ratio", "tokens/s", "ratio", "command s", "peak GiB"):
        table.add_column(name, justify="right")
    first_hour = 3600.0 * len(rates[0][1].finished) / rates[0][1].command_seconds
    first_tokens = _tokens(rates[0][1])
    for number, rate, peak in rates:
        hourly = 3600.0 * len(rate.finished) / rate.command_seconds
        tokens = _tokens(rate) * number
        table.add_row(
            str(number), f"{hourly:.1f}", f"{hourly / first_hour:.2f}", f"{tokens:,.0f}",
            f"{tokens / first_tokens:.2f}", f"{rate.command_seconds:.0f}", f"{peak:.1f}",
        )  # fmt: skip
    return table


def _tokens(rate: Rate) -> float:
    return sum(rate.tokens_per_second) / len(rate.tokens_per_second)


def main() -> None:
    """Measure the need, then each number of runs at a time."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=4, help="runs of each command")
    parser.add_argument("--packed", type=int, nargs="+", default=[2], help="runs at a time")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--no-measure", action="store_true", help="skip the measurement of memory")
    parser.add_argument("words", nargs="*", help="overrides for every run")
    options = parser.parse_intermixed_args()
    console, gpu = Console(width=120), find_gpus()[0]
    console.print(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout)
    words = [*WORDS, f"budget.steps={options.steps}", *options.words]
    if not options.no_measure:
        measure_packing(words, num_runs=options.runs, console=console)
    seeds = "seed=" + ",".join(str(seed) for seed in range(options.runs))
    rates = []
    for number in (1, *options.packed):
        launcher = ["launcher=slots", f"launcher.slots={number}"]
        with tempfile.TemporaryDirectory() as folder, PeakUse(gpu) as use:
            rate = run_sweep([*words, seeds, *launcher], slots=number, folder=Path(folder))
        rates.append((number, rate, use.gib))
    console.print(render(rates))


if __name__ == "__main__":
    main()
