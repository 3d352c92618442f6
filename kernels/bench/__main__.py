"""Time WKV7: this project's backends, the PyTorch reference and every installable peer.

    python kernels/bench --output DIR [--shapes 8x4096x12,...] [--quick] [--kernels]

Run from the root of a checkout. Needs one CUDA device; exit status 2 where there is none, 1 if one
of our backends gave no time. Every library runs in a process of its own with a time limit.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
# run as a folder this file has no package, and its neighbours would be top-level modules
sys.path[:] = [str(HERE.parent), str(HERE.parents[1] / "src")] + [
    path for path in sys.path if Path(path).resolve() != HERE
]

from bench.peers import WORKERS, of_worker, why_absent, worker_environment  # noqa: E402
from bench.plot import plot_times  # noqa: E402
from bench.rows import Row, note_row, read_rows, select, write_csv  # noqa: E402
from bench.shapes import QUICK, SMALL, TRAINING, parse_shape  # noqa: E402
from bench.table import render_report  # noqa: E402

BUILDS_IN_BACKGROUND = ("rwkv_ops_cuda",)  # compilers only: they do not disturb the GPU
TUNED = ("fla_safe", "fla_plain")
PACKAGES = ("torch", "triton", "fla-core", "rwkv-ops", "flashrwkv2", "tilelang")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one worker of it."""
    options = parse_arguments(arguments)
    import torch

    if not torch.cuda.is_available():
        print("kernels/bench: no CUDA device here, nothing was timed", file=sys.stderr)
        return 2
    if options.worker is not None or options.prepare is not None:
        return run_inside(options)
    options.output.mkdir(parents=True, exist_ok=True)
    return Run(options).run()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; exit status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="kernels/bench", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of bench.csv .md .png .svg and logs")
    add("--shapes", help="BxTxH[xD], separated by commas; the first one is tuned on")
    add("--quick", action="store_true", help="two shapes, 20 samples")
    add("--kernels", action="store_true", help="also time our kernels one by one")
    add("--full-tuning", action="store_true", help="let FLA try all its configurations: minutes")
    add("--only", help=f"workers, separated by commas: {', '.join(WORKERS)}")
    add("--worker-seconds", type=float, default=90, help="limit of each worker")
    add("--prepare-seconds", type=float, default=90, help="limit of compiling FLA's kernels ahead")
    add("--total-seconds", type=float, default=1800, help="no worker runs beyond it")
    add("--commit", help="commit to record, where there is no .git")
    add("--worker", help=argparse.SUPPRESS)
    add("--prepare", help=argparse.SUPPRESS)
    add("--shard", type=int, default=0, help=argparse.SUPPRESS)
    add("--num-shards", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        options.chosen = parse_shapes(options.shapes, quick=options.quick)
        options.workers = options.only.split(",") if options.only else list(WORKERS)
        for worker in options.workers:
            of_worker(worker)
    except ValueError as error:
        parser.error(str(error))
    return options


def parse_shapes(text: str | None, *, quick: bool) -> list:
    """Return the shapes asked for; by default those of the bars and the small one."""
    if text is not None:
        return [parse_shape(part) for part in text.split(",")]
    return [*(QUICK if quick else (*TRAINING, SMALL))]


def run_inside(options: argparse.Namespace) -> int:
    """Be a worker process."""
    from bench.worker import Plan, prepare_worker, run_floor, run_worker

    if options.prepare is not None:
        prepare_worker(
            options.prepare,
            shard=options.shard,
            shards=options.num_shards,
            full_tuning=options.full_tuning,
        )
        return 0
    rows = options.output / f"{options.worker}.jsonl"
    plan = Plan(
        options.chosen, 10 if options.quick else 13, options.kernels, rows, options.full_tuning
    )
    if options.worker == "floor":
        run_floor(plan)
    else:
        run_worker(options.worker, plan)
    return 0


class Run:
    """One benchmark: workers one after another, results written after each."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the parsed command line."""
        self.options = options
        self.deadline = time.monotonic() + options.total_seconds
        self.machine = describe_machine(options.commit)
        self.rows: list[Row] = []
        self.started: list[subprocess.Popen] = []

    def run(self) -> int:
        """Run every worker, write everything, and return the exit status."""
        try:
            self.measure_all()
        finally:  # also where the run itself is interrupted
            for process in self.started:
                stop(process)
        self.write()
        title = f"WKV7 forward + backward, bf16, {self.machine['device']}"
        paths = [self.options.output / f"bench.{kind}" for kind in ("png", "svg")]
        plot_times(self.rows, paths, title=title)
        print((self.options.output / "bench.md").read_text())
        workers = self.options.workers
        ours = {i.name for w in workers for i in of_worker(w) if i.group == "ours"}
        timed = {row.implementation for row in select(self.rows, run="forward_backward")}
        return 0 if ours <= timed else 1

    def measure_all(self) -> None:
        """Run the floor and every worker, one after another."""
        background = {
            worker: self.start("--prepare", worker, log=f"prepare-{worker}")
            for worker in BUILDS_IN_BACKGROUND
            if worker in self.options.workers and not self.absent(worker)
        }
        self.measure("floor")
        prepared = False
        for worker in self.options.workers:
            if self.absent(worker):
                self.note(worker, "skipped", self.absent(worker))
                continue
            if worker in TUNED and not prepared:
                prepared = self.prepare_fla()
            built = background.get(worker)
            if built is not None and not wait(built, min(self.options.worker_seconds, self.left())):
                self.note(worker, "failed", f"its build did not end, see prepare-{worker}.log")
                continue
            self.measure(worker)

    def measure(self, worker: str) -> None:
        """Run one worker to its end or its limit, then write what there is."""
        limit = min(self.options.worker_seconds, self.left())
        if limit < 1:
            self.note(worker, "skipped", "the time of the whole run is spent")
            return
        started = time.monotonic()
        rows = self.options.output / f"{worker}.jsonl"
        rows.unlink(missing_ok=True)
        process = self.start("--worker", worker, log=worker)
        in_time = wait(process, limit)
        self.rows += read_rows(rows)
        rows.unlink(missing_ok=True)
        if not in_time:
            self.note(worker, "failed", f"stopped after {limit:.0f} s; what it measured is kept")
        elif process.returncode != 0:
            self.note(worker, "failed", f"exit status {process.returncode}, see {worker}.log")
        print(f"{worker}: {time.monotonic() - started:.0f} s", flush=True)
        self.write()

    def prepare_fla(self) -> bool:
        """Compile FLA's configurations in parallel; nothing else is timed meanwhile."""
        workers = [w for w in TUNED if w in self.options.workers]
        shards = max(1, (os.cpu_count() or 2) // len(workers))
        limit = min(self.options.prepare_seconds, self.left())
        started = time.monotonic()
        processes = [
            self.start("--prepare", worker, f"--shard={i}", f"--num-shards={shards}",
                       log=f"prepare-{worker}")
            for worker in workers for i in range(shards)
        ]  # fmt: skip
        for process in processes:
            wait(process, max(0.0, limit - (time.monotonic() - started)))
        print(f"FLA prepared: {time.monotonic() - started:.0f} s", flush=True)
        return True

    def start(self, *words: str, log: str) -> subprocess.Popen:
        """Start this program as a worker in a session of its own, its output in a log."""
        options = self.options
        command = [sys.executable, str(HERE), *words, "--output", str(options.output)]
        command += ["--shapes", ",".join(shape.name for shape in options.chosen)]
        command += ["--quick"] * options.quick + ["--kernels"] * options.kernels
        command += ["--full-tuning"] * options.full_tuning
        environment = os.environ if words[1] == "floor" else worker_environment(words[1])
        folder = options.output / "logs"
        folder.mkdir(exist_ok=True)
        with (folder / f"{log}.log").open("a") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self.started.append(process)
        return process

    def absent(self, worker: str) -> str | None:
        """Return why a worker's library cannot be there."""
        return why_absent(of_worker(worker)[0])

    def note(self, worker: str, metric: str, reason: str | None) -> None:
        """Record why numbers are missing."""
        items = [] if worker == "floor" else of_worker(worker)
        names = [(item.name, item.group) for item in items] or [("streaming floor", "floor")]
        self.rows += [note_row(name, group, metric, reason or "") for name, group in names]

    def left(self) -> float:
        """Return the seconds left for the whole run."""
        return max(0.0, self.deadline - time.monotonic())

    def write(self) -> None:
        """Write the CSV and the report of what there is."""
        write_csv(self.options.output / "bench.csv", self.rows, machine=self.machine)
        report = render_report(self.rows, machine=self.machine)
        (self.options.output / "bench.md").write_text(report)


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for a process, stop it at the limit; tell whether it ended by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        stop(process)
        return False
    return True


def stop(process: subprocess.Popen) -> None:
    """End a process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def describe_machine(commit: str | None) -> dict[str, str]:
    """Return device, versions, commit and date: columns of every row."""
    import torch

    found = {"device": torch.cuda.get_device_name(0)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    found["commit"] = commit or read_commit() or "unknown"
    found["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return found


def read_commit() -> str | None:
    """Return the commit of the checkout, with + after it where tracked files are changed."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
    except FileNotFoundError:
        return None
    return head.stdout.strip() + "+" * (changed.returncode != 0) if head.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
