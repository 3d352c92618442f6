"""failure.json of a run that could not write its own."""

from fseed.planned_run import PlannedRun
from fseed.provenance import redact
from fseed.records import (
    FAILURE_FILE,
    METRICS_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    last_step,
    read_run,
    write_json_atomic,
)
from fseed.sweep.lock import RunLocked, run_lock


def failure_stamp(run: PlannedRun) -> int | None:
    """Return what changes whenever failure.json is written; None where none can be read."""
    try:
        return (run.run_dir / FAILURE_FILE).stat().st_mtime_ns
    except OSError:
        return None


def record_failure(
    run: PlannedRun, *, failure: str, message: str, told: str = "", stamp: int | None = None
) -> bool:
    """Do what ``write_lost_failure`` does for a run whose process has ended.

    Nothing is written where another process works by now, or where the disk is full.
    """
    try:
        with run_lock(run.run_dir):
            return write_lost_failure(run, failure=failure, message=message, told=told, stamp=stamp)
    except (RunLocked, OSError):
        return False


def write_lost_failure(
    run: PlannedRun, *, failure: str, message: str, told: str, stamp: int | None
) -> bool:
    """Write failure.json of class ``failure`` unless the run has told how it ended; hold the run.

    ``told``: what it wrote last; ``stamp``: ``failure_stamp`` before its start, which tells an
    older failure. A run that was stopped by its launcher has told that it was interrupted;
    ``failure`` says why. Returns whether the file was written: not beside a result, and not into
    a folder that the run never began.
    """
    if not _is_open(run, stamp=stamp):
        return False
    write_json_atomic(run.run_dir / FAILURE_FILE, _content(run, failure, message, told))
    return True


def failure_class(run: PlannedRun) -> str | None:
    """Return the class in failure.json of ``run``, None where it has none."""
    failure = read_run(run.run_dir).failure
    return None if failure is None else str(failure["class"])


def _is_open(run: PlannedRun, *, stamp: int | None) -> bool:
    if (run.run_dir / RESULT_FILE).exists():
        return False
    if failure_stamp(run) != stamp:
        return failure_class(run) in (None, "interrupted")
    # a process that was ended early may have left its lock file alone
    return any(not path.name.startswith(".") for path in run.run_dir.iterdir())


def _content(run: PlannedRun, failure: str, message: str, told: str) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "pair_key": run.pair_key,
        "class": failure,
        "message": redact(message),
        "traceback": redact(told),
        "last_step": last_step(run.run_dir / METRICS_FILE),
        "peak_memory_gib": None,
    }
