"""What a Ray worker runs: one planned run, in a folder that is shared or its own.

A folder of its own travels as bytes: to the worker, so that the run continues where it stopped,
and back, however it ended.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from fseed.atomic import replacing
from fseed.launch import cluster_run
from fseed.launch.attempts import Limits
from fseed.launch.cluster_run import Ended, StopSignals, run_here
from fseed.launch.job import Job
from fseed.launch.resident import Resident
from fseed.launch.threads import thread_variables
from fseed.records import FAILURE_FILE, RESULT_FILE
from fseed.sweep.lock import LOCK_FILE

Files = Mapping[str, bytes]

# between the answer of a process that takes no other run and its end; the answer may be large
LEAVE_SECONDS = 2.0

# whoever sees one of these takes the other files as complete; a checkpoint needs the metrics
LAST_FILES = ("checkpoint.ckpt", FAILURE_FILE, RESULT_FILE)


@dataclass(frozen=True)
class Parcel:
    """One run on its way to a worker; ``files`` null: the worker sees the run's own folder."""

    job: Job
    limits: Limits
    threads: int  # CPU threads of the run
    working_folder: Path  # of the planner: paths of data and weights may be relative to it
    files: Files | None = None
    reuse: bool = False  # the process may take another run after this one


@dataclass(frozen=True)
class Returned:
    """How a run ended on a worker, with its files where the folder was not shared.

    ``ended`` null: the process takes no run any more, and this one was not begun.
    """

    ended: Ended | None
    files: Files | None = None


def run_parcel(parcel: Parcel) -> Returned:
    """Train one run on this worker; every end of it but that of the process is an answer."""
    resident = _resident() if parcel.reuse else None
    if resident is not None and resident.leaves:
        return Returned(None)
    returned = _run(parcel, resident)
    if resident is not None and resident.leaves:
        # Ray has no word for it: a task cannot ask that its process take no other
        threading.Timer(LEAVE_SECONDS, os._exit, [0]).start()
    return returned


@cache
def _resident() -> Resident:
    """Return what watches over the runs of this process."""
    return Resident(cluster_run.train)


def _run(parcel: Parcel, resident: Resident | None) -> Returned:
    with contextlib.suppress(OSError):  # another machine need not have this folder
        os.chdir(parcel.working_folder)
    os.environ.update(thread_variables(parcel.threads))
    if parcel.files is None:
        with StopSignals():
            return Returned(run_here(parcel.job, parcel.limits, resident=resident))
    with tempfile.TemporaryDirectory(prefix="fseed-run-") as private:
        # tables read arm, stage and task from the names of the folders
        folder = Path(private).joinpath(*parcel.job.run.run_dir.parts[-5:])
        put_files(folder, parcel.files)
        job = replace(parcel.job, run=replace(parcel.job.run, run_dir=folder))
        with StopSignals():
            ended = run_here(job, parcel.limits, resident=resident)
        message = ended.outcome.message.replace(str(folder), str(parcel.job.run.run_dir))
        ended = replace(ended, outcome=replace(ended.outcome, message=message))
        return Returned(ended, read_files(folder))


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a run's folder by their relative path; locks and half files stay."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK_FILE and path.suffix != ".tmp"
    }


def put_files(folder: Path, files: Files) -> None:
    """Make ``folder`` hold exactly ``files``, each written whole, the result as the last of all.

    A kill in the middle leaves an unfinished run that continues. The caller holds the run's lock.

    Raises:
        ValueError: for a name that leads out of the folder.
    """
    paths = {name: folder / name for name in sorted(files, key=lambda name: (_rank(name), name))}
    for name, path in paths.items():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name}: outside of the folder of the run")
    for name in LAST_FILES[1:]:
        (folder / name).unlink(missing_ok=True)
    for name, path in paths.items():
        with replacing(path) as temporary:
            temporary.write_bytes(files[name])
    for name in read_files(folder).keys() - files.keys():
        (folder / name).unlink()


def _rank(name: str) -> int:
    return LAST_FILES.index(name) + 1 if name in LAST_FILES else 0
