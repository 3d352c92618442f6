"""Many runs side by side: a row per key that differs, equal keys folded into a number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fseed.identity import is_read
from fseed.results.differences.groups import (
    FS,
    GROUPS,
    SEED,
    VOLATILE,
    group_of_record,
    group_of_setting,
)
from fseed.results.differences.runs import ABSENT, RECORD_PREFIX, Sample, comparable, same
from fseed.results.differences.sources import Source
from fseed.results.differences.values import values_text
from fseed.results.runs import config_leaves


@dataclass(frozen=True)
class Column:
    """Runs that stand in one column; more than one only where they differ in the seed alone."""

    title: str
    sources: Sequence[Source]

    @property
    def samples(self) -> list[Sample]:
        """Return what is compared of the runs."""
        return [source.sample for source in self.sources]


@dataclass(frozen=True)
class Cell:
    """The values of one key in one column, in order and each once; none: nothing recorded."""

    values: Sequence[Any]
    is_read: bool = True  # False: an option that this arm's mode, gate or schedule never reads


@dataclass(frozen=True)
class Row:
    """A key in which the columns differ."""

    key: str
    group: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Matrix:
    """Columns, the rows that differ sorted by group and key, and how many keys are equal."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    num_equal: int

    def counted_rows(self) -> list[Row]:
        """Return the rows of everything that can change a number."""
        return [row for row in self.rows if row.group != VOLATILE]

    def unexpected_rows(self, expected: Sequence[str]) -> list[Row]:
        """Return the counted rows whose group and key are not among ``expected``."""
        return [row for row in self.counted_rows() if not {row.group, row.key} & set(expected)]


def build_matrix(columns: Sequence[Column]) -> Matrix:
    """Compare ``columns`` key by key; a column without provenance has no say in its keys."""
    settings = [[sample.settings for sample in column.samples] for column in columns]
    recorded = [[_recorded(sample) for sample in column.samples] for column in columns]
    rows: list[Row] = []
    num_equal = 0
    for key, cells in (*_cells(settings), *_cells(recorded, skips_empty=True)):
        known = [cell for cell in cells if cell.values]
        if len(known) < min(2, len(columns)):
            continue  # one side alone is no comparison
        if _all_same(known):
            num_equal += 1
            continue
        rows.append(Row(key, _group(key, columns), cells))
    return Matrix(columns, sorted(rows, key=_order), num_equal)


def fold_seeds(sources: Sequence[Source]) -> list[Column]:
    """Return a column for all runs that differ in nothing but seed and volatile keys.

    Baselines come first, then the arms by name.
    """
    found: dict[Any, list[Source]] = {}
    for source in sources:
        found.setdefault(_signature(source.sample), []).append(source)
    _join_unrecorded(found)
    columns = [sorted(members, key=_seed_order) for members in found.values()]
    columns.sort(key=lambda members: (not _is_baseline(members[0]), str(members[0].arm)))
    return [Column(_title(members), members) for members in columns]


def _cells(
    columns: Sequence[Sequence[Mapping[str, Any]]], *, skips_empty: bool = False
) -> Iterator[tuple[str, list[Cell]]]:
    """Yield (key, cell of every column) for all keys, in the order they first occur."""
    keys = dict.fromkeys(key for column in columns for values in column for key in values)
    for key in keys:
        cells = []
        for column in columns:
            known = [values for values in column if values or not skips_empty]
            found = _distinct([values.get(key, ABSENT) for values in known])
            reads = not _is_arm_key(key) or any(is_read(key, values) for values in known)
            cells.append(Cell(found, reads))
        yield key, cells


def _is_arm_key(key: str) -> bool:
    return not key.startswith(RECORD_PREFIX) and group_of_setting(key) == FS


def _recorded(sample: Sample) -> dict[str, Any]:
    leaves = config_leaves(comparable(sample.provenance))
    return {RECORD_PREFIX + key: value for key, value in leaves}


def _group(key: str, columns: Sequence[Column]) -> str:
    if key.startswith(RECORD_PREFIX):
        return group_of_record(key.removeprefix(RECORD_PREFIX))
    group = group_of_setting(key)
    samples = [sample for column in columns for sample in column.samples]
    reads = group != FS or any(is_read(key, sample.settings) for sample in samples)
    return group if reads else VOLATILE


def _distinct(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if not any(same(value, other) for other in found):
            found.append(value)
    return found


def _all_same(cells: Sequence[Cell]) -> bool:
    return all(
        len(cell.values) == len(cells[0].values) and all(map(same, cell.values, cells[0].values))
        for cell in cells[1:]
    )


def _order(row: Row) -> tuple[int, bool, str]:
    return GROUPS.index(row.group), row.key.startswith(RECORD_PREFIX), row.key


def _signature(sample: Sample) -> tuple[str, str]:
    """Return what the runs of one column share, as text: settings, and provenance or ""."""
    shared = {
        key: value
        for key, value in sample.settings.items()
        if group_of_setting(key) not in (SEED, VOLATILE)
        and (not _is_arm_key(key) or is_read(key, sample.settings))
    }
    recorded = {
        key: value
        for key, value in _recorded(sample).items()
        if group_of_record(key.removeprefix(RECORD_PREFIX)) != VOLATILE
    }
    return repr(sorted(shared.items())), repr(sorted(recorded.items())) if recorded else ""


def _join_unrecorded(found: dict[Any, list[Source]]) -> None:
    """Move runs that never wrote provenance to the first column of their settings."""
    for settings, recorded in [key for key in found if key[1] == ""]:
        others = [key for key in found if key[0] == settings and key[1] != ""]
        if others:
            found[others[0]] += found.pop((settings, recorded))


def _is_baseline(source: Source) -> bool:
    settings = source.sample.settings
    mode, control = settings.get("fs.mode"), settings.get("control.kind", "none")
    return mode == "no_fs" and control == "none"


def _seed_order(source: Source) -> tuple[bool, int, str]:
    is_number = isinstance(source.seed, int)
    return not is_number, source.seed if is_number else 0, str(source.path)


def _title(members: Sequence[Source]) -> str:
    seeds = [source.seed for source in members]
    word = "seed" if len(members) == 1 else "seeds"
    return f"{members[0].arm or '?'}, {word} {values_text(seeds)}"
