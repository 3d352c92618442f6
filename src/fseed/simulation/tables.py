"""Tables of the simulations: rows of plain cells, rendered as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fseed.simulation.rates import Rate

Cell = str | int | float | None
FAILED = ("above nominal", "too low", "beaten")
_QUIET = (
    "99 % interval",
    "trials",
    "mean width pp",
    "budget",
    "false share of claims %",
    "false %",
)


@dataclass(frozen=True)
class Table:
    """One study: a file name, a heading, what was simulated, and a row per case.

    A column named ``verdict`` that begins with a word of FAILED marks a failure.
    """

    name: str
    title: str
    text: str
    rows: Sequence[Mapping[str, Cell]]

    @property
    def failures(self) -> list[str]:
        """The rows that miss their nominal rate or lose to a rival, a line each."""
        return [
            f"{self.title}: {_describe(row)}"
            for row in self.rows
            if str(row.get("verdict")).startswith(FAILED)
        ]


def rate_cells(rate: Rate, *, name: str = "rate %") -> dict[str, Cell]:
    """Return the cells of a rate in percent: the rate under ``name``, its interval, the trials."""
    ends = f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"
    return {name: round(100 * rate.value, 2), "99 % interval": ends, "trials": rate.trials}


def render_markdown(table: Table) -> str:
    """Return heading, text and the table as Markdown."""
    heads = list(table.rows[0])
    lines = [
        heads,
        ["---"] * len(heads),
        *([_text(row[head]) for head in heads] for row in table.rows),
    ]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"## {table.title}\n\n{table.text}\n\n{body}\n"


def render_csv(table: Table) -> str:
    """Return the rows as CSV with a heading."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(table.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return buffer.getvalue()


def _text(cell: Cell) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else "" if cell is None else str(cell)


def _describe(row: Mapping[str, Cell]) -> str:
    told = {head: cell for head, cell in row.items() if cell is not None and head not in _QUIET}
    return ", ".join(f"{head} {_text(cell)}" for head, cell in told.items())
