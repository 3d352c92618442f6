"""Run a plan to its end: one run under its lock, a sweep with its table."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fseed.errors import UserError
from fseed.lasting_console import say
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.provenance import redact
from fseed.sweep.failures import failure_stamp, write_lost_failure
from fseed.sweep.lock import RunLocked, run_lock
from fseed.sweep.plan import SweepPlan, is_finished
from fseed.sweep.report import render_notes, render_summary

Train = Callable[[PlannedRun, str], RunOutcome]
Launch = Callable[[Sequence[PlannedRun]], Sequence[RunOutcome]]
ShowTable = Callable[[Sequence[Path]], None]


def execute_run(run: PlannedRun, *, position: str, train: Train) -> RunOutcome:
    """Train one planned run unless it is finished or another process works on it.

    A run that fails in any way is an outcome, so that a sweep goes on; only KeyboardInterrupt,
    also for a run that was interrupted, ends the sweep.
    """
    try:
        with run_lock(run.run_dir):
            if is_finished(run):
                outcome = RunOutcome("skipped", f"finished already: {run.run_dir}", 0)
            else:
                outcome = _train(run, position=position, train=train)
    except RunLocked as error:
        outcome = RunOutcome("skipped", str(error), 0)
    except OSError as error:
        outcome = RunOutcome("failed", f"cannot write to {run.run_dir}: {error.strerror}", 1)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    # launchers print, keep and send it
    outcome = replace(outcome, message=redact(outcome.message))
    if outcome.status != "finished":
        title = f"{position}  {run.config.task.name} {run.arm} seed {run.config.seed}"
        say(f"{title} {outcome.status}: {outcome.message}")
    return outcome


def run_plan(plan: SweepPlan, *, launch: Launch, show_table: ShowTable) -> int:
    """Start what is left of a plan and end with the table of all its runs, whatever happens.

    Returns the exit code: 0 all done, 1 a run failed or the table could not be made, 2 runs failed
    by bad input only.
    """
    for line in (*render_notes(plan), render_summary(plan)):
        print(line, flush=True)
    is_refused = False
    try:
        outcomes = launch(plan.to_run) if plan.to_run else []
    except UserError:
        # no cluster, no Slurm: no run has begun, and nothing is written
        is_refused = True
        raise
    finally:
        has_table = is_refused or _show(show_table, plan)
    return exit_code(outcomes) if has_table else 1


def exit_code(outcomes: Sequence[RunOutcome]) -> int:
    """Return 1 if any run failed, else 2 if any had bad input, else 0."""
    codes = {outcome.exit_code for outcome in outcomes}
    return 1 if codes - {0, 2} else max(codes, default=0)


def _show(show_table: ShowTable, plan: SweepPlan) -> bool:
    """Show the table; an error there must not hide the one that ended the sweep."""
    try:
        show_table([entry.run.run_dir for entry in plan.entries])
    except Exception:
        _print_traceback()
        return False
    return True


def _train(run: PlannedRun, *, position: str, train: Train) -> RunOutcome:
    stamp = failure_stamp(run)
    try:
        return train(run, position)
    except UserError as error:
        return RunOutcome("failed", str(error), 2)
    # sys.exit in a library would end the whole sweep
    except (Exception, SystemExit) as error:
        told = _print_traceback()
        message = redact(f"{type(error).__name__}: {error}")
        write_lost_failure(run, failure="error", message=message, told=told, stamp=stamp)
        return RunOutcome("failed", message, 1)


def _print_traceback() -> str:
    """Print the traceback of the current exception without secrets; return it."""
    told = redact(traceback.format_exc())
    say(told.removesuffix("\n"))
    return told
