"""One process that trains with one trainer, shape after shape; a hang or crash ends here."""

import math
import time
import traceback
from pathlib import Path

from bench_throughput.jobs import Job, find_trainer
from bench_throughput.measured import Measured, train_row
from bench_throughput.rows import Row, append_row, job_row
from bench_throughput.workload import Setting


def run_jobs(
    setting: Setting, jobs: list[Job], rows: Path, *, process_started: float, max_seconds: float
) -> None:
    """Do the jobs in turn; a failure becomes a row and the next job runs."""
    from fseed.training.memory import free_memory

    if find_trainer(jobs[0].trainer).kind == "fla":
        from bench_throughput.fla_tuning import tune_quickly

        tune_quickly()
    trained = False
    for job in jobs:
        append_row(rows, job_row(job, "started"))
        cold = None if trained else process_started
        try:
            # a curve is whole, however slow the trainer
            limit = math.inf if job.purpose == "curves" else max_seconds
            row = run_job(setting, job, process_started=cold, max_seconds=limit)
        except Exception as error:
            traceback.print_exc()
            row = job_row(job, "failed", reason=first_line(error))
        trained = True
        append_row(rows, row)
        free_memory()


def run_job(
    setting: Setting, job: Job, *, process_started: float | None, max_seconds: float
) -> Row:
    """Do one job and return its row; where memory runs out, again with half a batch at a time."""
    if job.purpose == "profile":
        from bench_throughput.profiling import profile_step

        return profile_step(setting, job)
    if job.purpose == "score":
        from bench_throughput.scoring import measure_scoring

        return measure_scoring(setting, job)
    micro_batch, set_up = job.shape.batch, time.time()
    while True:
        found = attempt_job(setting, job, micro_batch=micro_batch, max_seconds=max_seconds)
        if found is not None:
            row = train_row(job, found, process_started=process_started)
            return row | {"set_up_seconds": found.clock.started - set_up}
        if micro_batch == 1:
            raise MemoryError("not even one example at a time fits into memory")
        micro_batch = (micro_batch + 1) // 2
        # what failed before is no part of a start
        process_started, set_up = None, time.time()


def attempt_job(
    setting: Setting, job: Job, *, micro_batch: int, max_seconds: float
) -> Measured | None:
    """Train with ``micro_batch`` examples at a time; None where memory does not suffice."""
    from fseed.training.memory import free_memory, is_out_of_memory

    try:
        if find_trainer(job.trainer).kind == "ours":
            from bench_throughput.ours import train_ours

            return train_ours(setting, job, micro_batch=micro_batch)
        from bench_throughput.plain_loop import train_plain

        return train_plain(setting, job, micro_batch=micro_batch, max_seconds=max_seconds)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"{job.name}: out of memory with {micro_batch} examples at a time")
    # here no frame of the attempt is left to hold its memory
    free_memory()
    return None


def first_line(error: BaseException, *, limit: int = 200) -> str:
    """Return the kind and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:limit]
