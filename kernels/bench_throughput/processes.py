"""The processes of a benchmark: one a trainer, one after another, each with a limit."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.__main__ import read_commit, stop, wait
from bench_throughput.jobs import Job, Trainer, find_trainer, why_absent, write_jobs
from bench_throughput.rows import Row, job_row, read_rows

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "triton", "flash-linear-attention", "fla-core", "transformers", "lightning")
FORWARDED = (
    "model",
    "device",
    "vocab_file",
    "data",
    "weights",
    "ragged",
    "seconds_per_shape",
    "rows_of_text",
)
Report = Callable[..., str]


class Workers:
    """One benchmark: workers in turn, everything written after each."""

    def __init__(
        self, options: argparse.Namespace, machine: dict[str, str], *, report: Report
    ) -> None:
        """Take the parsed command line and what writes the report."""
        self.options, self.machine, self.report = options, machine, report
        self.deadline = time.monotonic() + options.total_seconds
        self.rows: list[Row] = []
        self.started: list[subprocess.Popen[bytes]] = []
        self.compiled_dtypes: set[str] = set()

    def run(self, jobs: Sequence[Job]) -> int:
        """Do all jobs, print the report and return the exit status."""
        from bench_throughput.table import unequal

        try:
            self._prepare()
            for name in in_turn(jobs):
                self._run_trainer(name, [job for job in jobs if job.trainer == name])
        finally:  # also where the run itself is interrupted
            for process in self.started:
                stop(process)
        page = self.report(self.options.output, self.rows, machine=self.machine)
        print(page)
        problems = list(unequal(self.rows))
        problems += [
            f"{row['trainer']} {row['shape']}: {row['reason']}"
            for row in self.rows
            if row["kind"] == "failed" and find_trainer(row["trainer"]).kind != "fla"
        ]
        for problem in problems:
            print(f"FAILED: {problem}", file=sys.stderr)
        return 1 if problems else 0

    def _prepare(self) -> None:
        process = self._start("--prepare", log="prepare")
        if not wait(process, self._left()) or process.returncode != 0:
            log = self.options.output / "logs" / "prepare.log"
            raise SystemExit(f"weights and text were not prepared, see {log}")

    def _run_trainer(self, name: str, jobs: list[Job]) -> None:
        """Run the jobs of one trainer; a process that dies is followed by one for the rest."""
        trainer = find_trainer(name)
        absent = why_absent(trainer)
        if trainer.module is not None and self.options.device == "cpu":
            absent = "needs a GPU"
        if absent is not None:
            self.rows += [job_row(job, "skipped", reason=absent) for job in jobs]
            return
        if trainer.kind == "fla" and trainer.dtype not in self.compiled_dtypes:
            self._compile_fla(trainer)
        while jobs:
            limit = min(self.options.worker_seconds, self._left())
            if limit < 1:
                reason = "the time of the whole run is spent"
                self.rows += [job_row(job, "skipped", reason=reason) for job in jobs]
                return
            done = self._run_worker(name, jobs, limit)
            jobs = jobs[done:]
            self.report(self.options.output, self.rows, machine=self.machine)

    def _compile_fla(self, trainer: Trainer) -> None:
        """Compile FLA's kernels for weights of a dtype on all cores; nothing is timed meanwhile."""
        self.compiled_dtypes.add(trainer.dtype)
        shards = os.cpu_count() or 2
        limit, began = min(self.options.compile_seconds, self._left()), time.monotonic()
        processes = [
            self._start(
                *("--compile-fla", f"{trainer.dtype}:{i}/{shards}"),
                log="compile-fla",
                # as many processes as cores: threads of their own would stand in each other's way
                environment={**trainer.environment, "OMP_NUM_THREADS": "1"},
            )
            for i in range(shards)
        ]
        for process in processes:
            wait(process, max(0.0, limit - (time.monotonic() - began)))
        print(f"FLA compiled ahead, {trainer.dtype}: {time.monotonic() - began:.0f} s", flush=True)

    def _run_worker(self, name: str, jobs: list[Job], limit: float) -> int:
        """Run a process for ``jobs`` and return how many of them are settled."""
        rows = self.options.output / f"{name}.jsonl"
        rows.unlink(missing_ok=True)
        began = time.monotonic()
        words = ("--worker", write_jobs(jobs), "--rows", str(rows))
        process = self._start(*words, log=name, environment=find_trainer(name).environment)
        in_time = wait(process, limit)
        found = [row for row in read_rows(rows) if row["kind"] != "started"]
        rows.unlink(missing_ok=True)
        self.rows += found
        print(
            f"{name}: {len(found)} of {len(jobs)} in {time.monotonic() - began:.0f} s", flush=True
        )
        if len(found) == len(jobs):
            return len(jobs)
        reason = f"exit status {process.returncode}" if in_time else f"stopped after {limit:.0f} s"
        reason = f"{reason}, see logs/{name}.log"
        self.rows.append(job_row(jobs[len(found)], "failed", reason=reason))
        return len(found) + 1

    def _start(
        self, *words: str, log: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start this program as a worker in a session of its own, its output in a log."""
        options = self.options
        command = [sys.executable, str(HERE), *words, "--output", str(options.output)]
        for name in FORWARDED:
            value = getattr(options, name)
            if value is not None:
                command += [f"--{name.replace('_', '-')}", str(value)]
        folder = options.output / "logs"
        folder.mkdir(exist_ok=True)
        variables = {**os.environ, **(environment or {})}
        with (folder / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                [*command, "--started", str(time.time())],
                env=variables, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def _left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


def in_turn(jobs: Sequence[Job]) -> list[str]:
    """Return the trainers of jobs: ours, then those that judge them, then the rest."""
    names = list(dict.fromkeys(job.trainer for job in jobs))
    kinds = ("ours", "unfused", "fla")
    return sorted(names, key=lambda name: kinds.index(find_trainer(name).kind))


def describe_machine(*, device: str, commit: str | None) -> dict[str, str] | None:
    """Return device, versions and commit; None where there is no GPU and one is asked for."""
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        return None
    found = {"device": torch.cuda.get_device_name(0) if device == "gpu" else "CPU"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found | {"commit": commit or read_commit() or "unknown"}
