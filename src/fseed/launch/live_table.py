"""The table of runs while they run: redrawn on a terminal, one line per change elsewhere."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fseed.launch.attempts import Attempt
from fseed.launch.job import Job
from fseed.planned_run import RunOutcome

COLUMNS = ("slot", "task", "arm", "seed", "step", "loss", "tokens/s", "elapsed", "state")
REDRAW_SECONDS = 0.25


class RunTable:
    """One row per run that runs; what has ended is a line above the table.

    Runs with ``trainer.progress=false`` are told of only where something went wrong.
    """

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        """Draw on ``console``, nothing yet."""
        self.console = console
        self.shows_progress = any(job.run.config.trainer.progress for job in jobs)
        self.is_redrawn = console.is_terminal and self.shows_progress
        self.is_stopping = False
        self._live: Live | None = None
        self._drawn_at = 0.0
        self._counts: Counter[str] = Counter()

    def say(self, line: str) -> None:
        """Print one line, unless no progress is wanted."""
        if self.shows_progress:
            self._print(line)

    def started(self, attempt: Attempt) -> None:
        """Tell that a run has started; on a terminal its row does."""
        if not self.is_redrawn:
            self.say(f"{attempt.job.title} started in slot {attempt.worker.slot.label}")

    def retried(self, job: Job, attempt: Attempt | None, outcome: RunOutcome, why: str) -> None:
        """Tell that a run was lost and is tried again."""
        self._print(f"{job.title} lost{_after(attempt)}: {outcome.message}; tried again, as {why}")

    def ended(self, job: Job, attempt: Attempt | None, outcome: RunOutcome) -> None:
        """Tell how a run ended."""
        self._counts[outcome.status] += 1
        line = f"{job.title} {outcome.status}{_after(attempt)}"
        if outcome.status == "finished":
            self.say(f"{line}{_result(attempt)}")
        else:
            self._print(f"{line}: {outcome.message}")

    def stopping(self, line: str) -> None:
        """Tell that all runs have been asked to stop."""
        self.is_stopping = True
        self._print(line)

    def update(self, attempts: Iterable[Attempt], num_waiting: int) -> None:
        """Draw the rows of what runs, from time to time."""
        now = time.monotonic()
        if not self.is_redrawn or now - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = now
        caption = describe_counts(self._counts, num_waiting=num_waiting)
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(build_table(list(attempts), caption=caption), refresh=True)

    def close(self) -> None:
        """Take the table away; the lines of what has ended stay."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def summary(self, outcomes: Collection[RunOutcome], *, num_waiting: int) -> str:
        """Return what a stopped sweep has done in one line."""
        counts = Counter(outcome.status for outcome in outcomes)
        return describe_counts(counts, num_waiting=num_waiting)

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)


def build_table(attempts: Sequence[Attempt], *, caption: str = "") -> Table:
    """Return the table of the runs that run, in the order of their slots."""
    table = Table(*COLUMNS, caption=caption, caption_justify="left")
    for attempt in sorted(attempts, key=lambda each: each.worker.slot.number):
        # an arm's label may hold brackets, which are no markup
        table.add_row(*(Text(cell) for cell in cells(attempt)))
    return table


def cells(attempt: Attempt) -> tuple[str, ...]:
    """Return the cells of a run's row; what it has not told yet is empty."""
    config, facts = attempt.job.run.config, attempt.facts
    step = f"{facts['step']}/{facts['num_steps']}" if {"step", "num_steps"} <= facts.keys() else ""
    return (
        attempt.worker.slot.label,
        config.task.name,
        attempt.job.run.arm,
        str(config.seed),
        step,
        f"{facts['loss']:.3f}" if "loss" in facts else "",
        f"{facts['tokens_per_second']:,.0f}" if "tokens_per_second" in facts else "",
        render_seconds(attempt.seconds),
        attempt.state,
    )


def describe_counts(counts: Counter[str], *, num_waiting: int) -> str:
    """Return "3 finished, 1 failed, 2 waiting"."""
    told = [f"{number} {status}" for status, number in counts.items()]
    return ", ".join([*told, f"{num_waiting} waiting"])


def render_seconds(seconds: float) -> str:
    """Return a time as people read it.

    >>> render_seconds(7.2), render_seconds(123), render_seconds(3723)
    ('7 s', '2:03', '1:02:03')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _after(attempt: Attempt | None) -> str:
    return "" if attempt is None else f" after {render_seconds(attempt.seconds)}"


def _result(attempt: Attempt | None) -> str:
    facts = {} if attempt is None else attempt.facts
    if not {"loss", "tokens_per_second"} <= facts.keys():
        return ""
    return f"  loss {facts['loss']:.3f}  {facts['tokens_per_second']:,.0f} tok/s"
