"""What two runs differ in, key by key and by group."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from fseed.identity import is_read
from fseed.results.differences.groups import (
    FS,
    GROUPS,
    VOLATILE,
    group_of_record,
    group_of_setting,
)

if TYPE_CHECKING:
    from fseed.results.runs import Run

RECORD_PREFIX = "provenance."
# moments and earlier starts: not properties of a run, and never twice the same
_NOT_COMPARED = ("started_at", "attempts")


class Absent(Enum):
    """The one value of a key that a run does not have; None is a value of its own."""

    absent = "absent"


ABSENT = Absent.absent


@dataclass(frozen=True)
class Difference:
    """One key with its value on either side; ``ABSENT`` where a side lacks it."""

    key: str  # dotted; what comes from provenance.json begins with "provenance."
    left: Any
    right: Any


@dataclass(frozen=True)
class Sample:
    """What is compared of one run: dotted settings and provenance.json, empty if not known."""

    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


def differing_groups(run_a: "Run", run_b: "Run") -> dict[str, list[Difference]]:
    """Return the differences between two runs by group, in the order of ``GROUPS``.

    Only groups with a difference are keys; ``volatile`` holds what cannot change a number.
    Provenance is compared where both runs have some.
    """
    left = Sample(run_a.settings, run_a.record.provenance)
    return compare(left, Sample(run_b.settings, run_b.record.provenance))


def compare(left: Sample, right: Sample) -> dict[str, list[Difference]]:
    """Return the differences between two samples by group, see ``differing_groups``."""
    groups: dict[str, list[Difference]] = {}
    for key, *values in _pairs(left.settings, right.settings):
        group = group_of_setting(key)
        if group == FS and not (is_read(key, left.settings) or is_read(key, right.settings)):
            group = VOLATILE
        groups.setdefault(group, []).append(Difference(key, *values))
    if left.provenance and right.provenance:
        recorded = comparable(left.provenance), comparable(right.provenance)
        for key, *values in _leaf_pairs(recorded[0], recorded[1], ""):
            found = groups.setdefault(group_of_record(key), [])
            found.append(Difference(RECORD_PREFIX + key, *values))
    return {group: groups[group] for group in GROUPS if group in groups}


def comparable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of provenance.json that describe the run and not the moment."""
    return {key: value for key, value in provenance.items() if key not in _NOT_COMPARED}


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal; NaN equals itself, and true is not 1."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return left == right or (left != left and right != right)


def _pairs(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, left, right) of all keys that differ, in the order of the left side."""
    for key in left if left.keys() == right.keys() else {**left, **right}:
        old, new = left.get(key, ABSENT), right.get(key, ABSENT)
        # nearly all keys of a pair end here
        if (old is new or (type(old) is type(new) and old == new)) or same(old, new):
            continue
        yield key, old, new


def _leaf_pairs(
    left: Mapping[str, Any], right: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what ``_pairs`` does for nested mappings, going only into those that differ."""
    for key, old, new in _pairs(left, right):
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            inner = [value if isinstance(value, Mapping) else {} for value in (old, new)]
            yield from _leaf_pairs(inner[0], inner[1], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", old, new
