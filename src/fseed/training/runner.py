"""One run from its plan to ``result.json``, resumable after any kind of end."""

import gc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from fseed.errors import DataError, RunInterrupted, UserError
from fseed.lasting_console import say
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.records import FAILURE_FILE, clean_temporaries
from fseed.training.attempt import Attempt
from fseed.training.checkpoint_file import Start, find_start
from fseed.training.distributed_launch import RankedAttempt, RankJob
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import ScoringOutOfMemory, free_memory, is_out_of_memory
from fseed.training.memory_split import (
    EVALUATION,
    TRAINING,
    Split,
    current_size,
    halve,
    with_splits,
)
from fseed.training.records import write_config, write_failure
from fseed.training.run_log import read_splits

# room for failure.json on a full disk; named like a temporary, so that a later start removes it
RESERVE_FILE = ".reserve.tmp"
RESERVE_BYTES = 64 * 1024


def train_run(run: PlannedRun, *, position: str = "1/1") -> RunOutcome:
    """Train and score one planned run; every end of it is a record.

    ``position`` (such as "2/6") leads the progress line. Continues from the last checkpoint of the
    same run. Ends with ``result.json`` or ``failure.json``.
    """
    gc.collect()  # module, trainer and callbacks of a run before this one refer to each other
    try:
        with InterruptFlag() as flag:
            clean_temporaries(run.run_dir)
            (run.run_dir / FAILURE_FILE).unlink(missing_ok=True)
            write_config(run)
            (run.run_dir / RESERVE_FILE).write_bytes(bytes(RESERVE_BYTES))
            _train(run, flag, position=position)
    except (RunInterrupted, KeyboardInterrupt) as error:
        _record_failure(run, failure="interrupted", error=error)
        return RunOutcome("interrupted", str(error) or "stopped", 130)
    except Exception as error:
        _record_failure(run, failure=classify_failure(error), error=error)
        if isinstance(error, UserError):
            return RunOutcome("failed", str(error), 2)
        return RunOutcome("failed", f"{type(error).__name__}: {error}", 1)
    finally:
        (run.run_dir / RESERVE_FILE).unlink(missing_ok=True)
    if flag.requested:  # asked for while the result was written: nothing is left to continue
        return RunOutcome("interrupted", f"stopped after {run.run_dir.name} had finished", 130)
    return RunOutcome("finished", str(run.run_dir), 0)


def classify_failure(error: BaseException) -> str:
    """Return the failure class of an exception, one of ``records.FAILURE_CLASSES``."""
    if is_out_of_memory(error):
        return "oom"
    if isinstance(error, FloatingPointError):
        return "nan"
    if isinstance(error, ConnectionError | TimeoutError):
        return "network"
    if isinstance(error, DataError):
        return "data"
    return "config" if isinstance(error, UserError) else "error"


def _train(run: PlannedRun, flag: InterruptFlag, *, position: str) -> None:
    """Try with ever fewer samples at a time until memory suffices; the batches stay the same.

    Raises:
        MemoryError: where fewer cannot help.
    """
    start = _find_start(run.run_dir)
    splits = read_splits(run.run_dir, step=start.step)
    while True:
        sized = replace(run, config=with_splits(run.config, splits))
        shortage = _try(sized, flag, position=position, start=start, splits=splits)
        if shortage is None:
            return
        # here no frame holds any part of the attempt that failed
        free_memory()
        start = _find_start(run.run_dir)
        splits = [*splits, _split(sized, shortage, step=max(start.step, 0))]
        title = f"{position}  {run.config.task.name} {run.arm} seed {run.config.seed}"
        say(f"{title}: {splits[-1].text()}")


class _Shortage:
    """Memory ran out: where, after which step, and the words of the error, but not the error.

    Its traceback would hold the model.
    """

    def __init__(self, error: BaseException, *, step: int) -> None:
        self.where = EVALUATION if isinstance(error, ScoringOutOfMemory) else TRAINING
        self.step, self.message = step, str(error) or type(error).__name__


def _try(
    run: PlannedRun, flag: InterruptFlag, *, position: str, start: Start, splits: list[Split]
) -> _Shortage | None:
    """Run one attempt to its end; None, or where memory ran out while it trained or scored."""
    attempt = _build_attempt(run, flag, position=position, start=start, splits=splits)
    try:
        attempt.run_to_end()
    except Exception as error:
        if not is_out_of_memory(error) or _has_other_processes():
            raise
        return _Shortage(error, step=attempt.step)
    return None


def _build_attempt(
    run: PlannedRun, flag: InterruptFlag, *, position: str, start: Start, splits: list[Split]
) -> Attempt | RankedAttempt:
    num_ranks = run.config.trainer.devices
    if num_ranks == 1:
        return Attempt(run, flag, position=position, start=start, splits=splits)
    return RankedAttempt(RankJob(run, position, start, tuple(splits)), flag, num_ranks=num_ranks)


def _has_other_processes() -> bool:
    """Tell whether other processes train the same run: they would wait for this one forever."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized()


def _split(run: PlannedRun, shortage: _Shortage, *, step: int) -> Split:
    """Return the halving that answers a shortage; MemoryError where none does."""
    try:
        size = halve(run.config, where=shortage.where, has_started=True)
    except UserError as refusal:
        raise MemoryError(f"{refusal} ({shortage.message})") from None
    before = current_size(run.config, where=shortage.where)
    return Split(shortage.where, before, size, step, shortage.step)


def _find_start(run_dir: Path) -> Start:
    start = find_start(run_dir)
    for text in start.damaged:
        goes_on = "starts anew" if start.path is None else f"continues from step {start.step}"
        say(f"{run_dir}: {text}; the run {goes_on}")
    return start


def _record_failure(run: PlannedRun, *, failure: str, error: BaseException) -> None:
    """Write failure.json, on a full disk in the room that was kept for it."""
    # what cannot be written is still told by the outcome
    with suppress(OSError):
        clean_temporaries(run.run_dir)
        write_failure(run, failure=failure, error=error)
