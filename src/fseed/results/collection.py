"""Everything that a set of folders tells: runs, paired rows, alarms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fseed.records import Scan, scan
from fseed.results.alarms import find_alarms
from fseed.results.beside import beside
from fseed.results.comparison import Comparison, as_row, compare_arms
from fseed.results.defaults import DEFAULT_MARGIN
from fseed.results.duplicates import drop_duplicates
from fseed.results.headings import describe_runs
from fseed.results.index import load_runs
from fseed.results.memo import MEMO_NAME, Memo
from fseed.results.pairs import Arm, build_arms
from fseed.results.runs import Run, load_run, tidy_row
from fseed.results.staged import StagedSweep, read_sweeps

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Collection:
    """Runs, each counted once, the rows of the paired table, and what looks wrong.

    ``margin``: the difference that counts as none, a fraction; ``sweeps``: the staged ones;
    ``arms``: the runs behind the rows.
    """

    runs: list[Run]
    comparisons: list[Comparison]
    alarms: list[str]
    num_foreign_files: int
    margin: float = DEFAULT_MARGIN
    sweeps: list[StagedSweep] = field(default_factory=list)
    arms: list[Arm] = field(default_factory=list)

    @property
    def not_usable(self) -> list[Run]:
        """Return the runs that give no number: failed, invalid, unfinished, unreadable."""
        return [run for run in self.runs if run.status != "finished"]

    @cached_property
    def headings(self) -> list[str]:
        """Return the first lines of every table: models, data sources, number of runs."""
        return describe_runs(self.runs, num_foreign_files=self.num_foreign_files)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of runs by status."""
        return dict(Counter(run.status for run in self.runs))


def collect_runs(
    paths: Sequence[Path], *, margin: float = DEFAULT_MARGIN, cache: Path | None = None
) -> Collection:
    """Read all runs below ``paths`` and compare them; UserError for a path that is no folder.

    ``cache``: file that keeps loaded runs for the next time, see ``fseed.results.index``; long
    computations are kept beside it, see ``fseed.results.memo``.
    """
    return collect_found(scan(paths), margin=margin, cache=cache)


def collect_found(
    found: Scan,
    *,
    margin: float = DEFAULT_MARGIN,
    cache: Path | None = None,
    signatures: Mapping[str, str] | None = None,
) -> Collection:
    """Do the same with folders that were found, and signed, before."""
    loaded = load_runs(found.run_dirs, cache=cache, signatures=signatures)
    told = drop_duplicates([*loaded, *map(load_run, found.unreadable)])
    runs = told.runs
    arms = build_arms(runs)
    sweeps = read_sweeps(runs)
    found_alarms = beside(partial(find_alarms, runs, arms), num_runs=len(runs))
    memo = Memo(cache.with_name(MEMO_NAME) if cache is not None else None)
    comparisons = compare_arms(
        arms, margin=margin, sweeps=sweeps, contradicted=told.contradicted, memo=memo
    )
    memo.save()
    alarms = told.alarms + found_alarms()
    alarms += [problem for sweep in sweeps for problem in sweep.problems]
    return Collection(runs, comparisons, alarms, found.num_foreign_files, margin, sweeps, arms)


def runs_frame(collection: Collection) -> "pandas.DataFrame":
    """Return the tidy frame: a row per run, a column per config leaf, score and hash."""
    import pandas

    return pandas.DataFrame([tidy_row(run) for run in collection.runs])


def comparisons_frame(collection: Collection) -> "pandas.DataFrame":
    """Return the paired table as a frame; scores are fractions."""
    import pandas

    return pandas.DataFrame([as_row(row) for row in collection.comparisons])
