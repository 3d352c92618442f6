"""The table of arms while a sweep runs: redrawn on a terminal, one line per change elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fseed.planned_run import PlannedRun
from fseed.sweep.staged.decisions_file import TakenDecision
from fseed.sweep.staged.flow import ArmRow, Progress

COLUMNS = ("task", "stage", "arm", "state", "seeds", "difference", "interval", "reason")
_STYLES = {"passed": "green", "complete": "bold", "dropped": "dim"}


class LiveTable:
    """Show how far every arm has come; the newest state of an arm is one row."""

    def __init__(self, console: Console) -> None:
        """Draw on ``console``, nothing yet."""
        self.console = console
        self.live: Live | None = None
        self._told: dict[tuple[object, ...], str] = {}

    @property
    def is_redrawn(self) -> bool:
        """Whether the table stands still on a terminal and is drawn anew."""
        return self.console.is_terminal

    def update(self, progresses: Sequence[Progress], running: Sequence[PlannedRun]) -> None:
        """Show the rows of every task and the runs that start now."""
        rows = [row for progress in progresses for row in progress.rows.values()]
        if self.is_redrawn:
            self._redraw(rows, running)
            return
        lines = {one.key: render_decision(one) for each in progresses for one in each.taken}
        # what was decided is told with its numbers, so its row is not told again
        lines |= {(row.task, row.arm): render_line(row) for row in rows if not row.is_decided}
        for key, text in lines.items():
            if self._told.get(key) != text:
                self._told[key] = text
                self.say(text)

    def say(self, line: str) -> None:
        """Print one line, above the table on a terminal."""
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last table on the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _redraw(self, rows: Sequence[ArmRow], running: Sequence[PlannedRun]) -> None:
        if self.live is None:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()
        self.live.update(build_table(rows, running), refresh=True)


def build_table(rows: Sequence[ArmRow], running: Sequence[PlannedRun] = ()) -> Table:
    """Return the table of all arms; the caption names what runs."""
    names = [
        f"{run.config.task.name} {run.config.sweep.stage} {run.arm} seed {run.config.seed}"
        for run in running
    ]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    caption = f"running: {', '.join(names[:2])}{more}" if names else None
    table = Table(*COLUMNS, caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(*cells(row), style=_STYLES.get(row.state))
    return table


def cells(row: ArmRow) -> tuple[str, ...]:
    """Return the cells of a row; differences in percentage points."""
    difference = "" if row.difference is None else f"{100 * row.difference:+.2f} pp"
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"[{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
    seeds = f"{row.num_done}/{row.num_seeds}"
    return row.task, row.stage, row.arm, row.state, seeds, difference, interval, row.reason


def render_line(row: ArmRow) -> str:
    """Return a row as one line, empty cells left out.

    >>> render_line(ArmRow("arc", "quick", "raw_l10", "racing", 1, 3, difference=0.01))
    'arc quick raw_l10: racing, 1/3 seeds, +1.00 pp'
    """
    task, stage, arm, state, seeds, difference, interval, reason = cells(row)
    told = [state, f"{seeds} seeds", difference, interval, reason]
    return f"{task} {stage} {arm}: {', '.join(part for part in told if part)}"


def render_decision(taken: TakenDecision) -> str:
    """Return a decision as one line."""
    return f"{taken.task} {taken.stage} {taken.decision.arm}: {taken.decision.text}"
