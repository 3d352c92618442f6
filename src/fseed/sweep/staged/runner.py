"""Bring a staged sweep to its end: plan, probes, runs, decisions, report, all resumable."""

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fseed.errors import UserError
from fseed.lasting_console import say
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.execute import exit_code
from fseed.sweep.lock import RunLocked, run_lock
from fseed.sweep.staged.book import check_all_stages
from fseed.sweep.staged.decisions_file import DecisionLog
from fseed.sweep.staged.flow import Flow, Progress
from fseed.sweep.staged.plan_file import settle_plan
from fseed.sweep.staged.probe_file import (
    Measure,
    Probe,
    ProbeFailed,
    find_probe_run,
    read_probes,
    write_probes,
)
from fseed.sweep.staged.scores import Scores
from fseed.sweep.staged.setup import StagedSweep
from fseed.sweep.staged.stages import THRESHOLD_NOTE

NO_CONTROLS = "note: sweep.controls=false: what is confirmed stands without its controls"
ONE_DEVICE = (
    "; measured on one device with the samples of its share: what trainer.devices={} add (copies, "
    "traffic) or save (trainer.strategy=fsdp2) is not in it"
)

Launch = Callable[[Sequence[PlannedRun], Sequence[str]], Sequence[RunOutcome]]
ShowReport = Callable[[Path], None]


class View(Protocol):
    """What a person sees while the sweep runs."""

    def update(self, progresses: Sequence[Progress], running: Sequence[PlannedRun]) -> None:
        """Show how far every task has come and what starts now."""
        ...

    def say(self, line: str) -> None:
        """Print one line."""
        ...

    def close(self) -> None:
        """Leave the screen as it is."""
        ...


@dataclass
class Tools:
    """What a sweep is run with; ``batch_size`` runs are handed to the launcher at once."""

    launch: Launch
    measure: Measure
    show_report: ShowReport
    view: View
    batch_size: int | None = None  # null: every run that is due


@dataclass
class _Session:
    """One process at work on a sweep."""

    sweep: StagedSweep
    tools: Tools
    flow: Flow
    problems: dict[str, str] = field(default_factory=dict)
    outcomes: list[RunOutcome] = field(default_factory=list)


def run_staged(sweep: StagedSweep, tools: Tools) -> int:
    """Run what is left of a sweep and end with its report, whatever happens.

    Returns 0 when all is done, 1 when a run, a probe or the report failed, 2 when runs failed by
    bad input only.

    Raises:
        UserError: for a folder that another process or another plan holds, or decisions that the
            runs do not lead to.
    """
    try:
        with run_lock(sweep.folder, num_parents=1):
            return _run_locked(sweep, tools)
    except RunLocked as error:
        raise UserError(f"{error}\nwait for it, or give another sweep.name") from error


def _run_locked(sweep: StagedSweep, tools: Tools) -> int:
    is_new = settle_plan(sweep.folder, sweep.plan)
    log = DecisionLog(sweep.folder)
    log.load()
    flow = Flow(
        book=sweep.book,
        stages=sweep.stages,
        rules=sweep.rules,
        has_controls=sweep.has_controls,
        scores=Scores(),
        log=log,
    )
    session = _Session(sweep, tools, flow)
    for line in (f"{'started' if is_new else 'resumed'}: {sweep.folder}", *_notes(sweep)):
        tools.view.say(line)
    try:
        _probe_tasks(session)
        progresses = _run_tasks(session)
        if not session.problems:
            log.check_complete()
    finally:
        tools.view.close()
        has_report = _show_report(session)
    failed = session.problems or any(one.num_failed for one in progresses)
    code = exit_code(session.outcomes)
    return code or (0 if has_report and not failed else 1)


def _notes(sweep: StagedSweep) -> list[str]:
    notes = [THRESHOLD_NOTE] if sweep.rules.rule == "threshold" else []
    return [*notes, *([] if sweep.has_controls else [NO_CONTROLS]), *sweep.book.notes()]


def _probe_tasks(session: _Session) -> None:
    """Measure the tasks that were not, and set the micro batch of all their arms."""
    sweep, probes = session.sweep, read_probes(session.sweep.folder)
    for task in sweep.book.tasks:
        run = find_probe_run(sweep.book, task, sweep.stages, has_controls=sweep.has_controls)
        try:
            if task not in probes:
                session.tools.view.say(f"{task}: probe of {run.arm} at its maximum length")
                probes[task] = session.tools.measure(run)
                write_probes(sweep.folder, probes)
                session.tools.view.say(f"{task}: {describe_probe(probes[task], run)}")
            words = probes[task].words(batch_size=_share_of_batch(run))
            if words:
                _split_batches(sweep, task, words)
        except (ProbeFailed, UserError) as error:
            session.problems[task] = f"{task} stops before its first run: {error}"
            session.tools.view.say(session.problems[task])


def _split_batches(sweep: StagedSweep, task: str, words: Sequence[str]) -> None:
    """Give every run of a task these overrides; UserError where an arm cannot take them."""
    sweep.book.add_words(task, words)
    check_all_stages(sweep.book, sweep.stages, has_controls=sweep.has_controls, tasks=[task])


def describe_probe(probe: Probe, run: PlannedRun) -> str:
    """Return what a probe found in one line."""
    batch_size, devices = run.config.budget.batch_size, run.config.trainer.devices
    whole = probe.micro_batch_size >= _share_of_batch(run)
    fits = "the whole batch fits" if whole else f"micro batches of {probe.micro_batch_size}"
    if probe.eval_batch_size is not None:
        fits += f", {probe.eval_batch_size} scored at a time"
    memory = "" if probe.peak_gib is None else f", peak {probe.peak_gib:.1f} GiB"
    return (
        f"batch of {batch_size}: {fits}{memory}, {probe.seconds_per_step:.2f} s a step "
        f"at the maximum length ({probe.arm})" + (ONE_DEVICE.format(devices) if devices > 1 else "")
    )


def _share_of_batch(run: PlannedRun) -> int:
    """Return the samples of a batch that one device takes."""
    return math.ceil(run.config.budget.batch_size / run.config.trainer.devices)


def _run_tasks(session: _Session) -> list[Progress]:
    """Start what is due, task by task, until nothing is; decisions are taken in between."""
    tasks = [task for task in session.sweep.book.tasks if task not in session.problems]
    while True:
        progresses = [session.flow.advance(task) for task in tasks]
        for progress in progresses:
            session.flow.log.settle(progress.taken)
            if progress.problem is not None and progress.task not in session.problems:
                session.problems[progress.task] = progress.problem
                session.tools.view.say(progress.problem)
        due = [run for progress in progresses for run in progress.needed]
        runs = due[: session.tools.batch_size]
        session.tools.view.update(progresses, runs)
        if not runs:
            return progresses
        positions = [_position(progresses, run) for run in runs]
        session.outcomes += session.tools.launch(runs, positions)
        session.flow.scores.attempted(runs)


def _position(progresses: Sequence[Progress], run: PlannedRun) -> str:
    """Return "quick 3 left": the stage of a run, and how many runs of its task are due with it."""
    left = next(len(one.needed) for one in progresses if one.task == run.config.task.name)
    return f"{run.config.sweep.stage}, {left} due"


def _show_report(session: _Session) -> bool:
    """Show the report of what has run; an error there must not hide the one that ended it."""
    folder = session.sweep.folder
    if next(folder.glob("*/*/*/s*-*"), None) is None:
        return True
    try:
        session.tools.show_report(folder)
    except Exception:
        say(traceback.format_exc().removesuffix("\n"))
        return False
    return True
