"""Everything that a set of folders tells: runs, paired rows, alarms."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fseed.records import read_run, scan
from fseed.results.alarms import drop_duplicates, find_alarms
from fseed.results.comparison import Comparison, as_row, compare_arms
from fseed.results.pairs import build_arms
from fseed.results.runs import Run, load_run, tidy_row

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Collection:
    """Runs, each counted once, the rows of the paired table, and what looks wrong."""

    runs: list[Run]
    comparisons: list[Comparison]
    alarms: list[str]
    num_foreign_files: int

    @property
    def not_usable(self) -> list[Run]:
        """Return the runs that give no number: failed, invalid, unfinished, unreadable."""
        return [run for run in self.runs if run.status != "finished"]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of runs by status."""
        return dict(Counter(run.status for run in self.runs))


def collect_runs(paths: Sequence[Path]) -> Collection:
    """Read all runs below ``paths`` and compare them; UserError for a path that is no folder."""
    found = scan(paths)
    records = [read_run(path) for path in found.run_dirs] + found.unreadable
    runs, alarms = drop_duplicates([load_run(record) for record in records])
    arms = build_arms(runs)
    alarms += find_alarms(runs, arms)
    return Collection(runs, compare_arms(arms), alarms, found.num_foreign_files)


def runs_frame(collection: Collection) -> "pandas.DataFrame":
    """Return the tidy frame: a row per run, a column per config leaf, score and hash."""
    import pandas

    return pandas.DataFrame([tidy_row(run) for run in collection.runs])


def comparisons_frame(collection: Collection) -> "pandas.DataFrame":
    """Return the paired table as a frame; scores are fractions."""
    import pandas

    return pandas.DataFrame([as_row(row) for row in collection.comparisons])
