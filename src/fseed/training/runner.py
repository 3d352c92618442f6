"""One run from its plan to ``result.json``, resumable after any kind of end."""

import gc

from fseed.errors import DataError, RunInterrupted, UserError
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.records import FAILURE_FILE, clean_temporaries
from fseed.training.attempt import Attempt
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import is_out_of_memory
from fseed.training.records import write_config, write_failure


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
            Attempt(run, flag, position=position).run_to_end()
    except (RunInterrupted, KeyboardInterrupt) as error:
        write_failure(run, failure="interrupted", error=error)
        return RunOutcome("interrupted", str(error) or "stopped", 130)
    except Exception as error:
        write_failure(run, failure=classify_failure(error), error=error)
        if isinstance(error, UserError):
            return RunOutcome("failed", str(error), 2)
        return RunOutcome("failed", f"{type(error).__name__}: {error}", 1)
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
