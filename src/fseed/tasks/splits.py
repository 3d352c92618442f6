"""Three splits that share no id, no near-duplicate and no group (gold paragraph, context, cluster).

Published splits are kept. One that is missing is divided from another by a hash of the row's
``division``, which depends on nothing else in the data:

- test missing: half of validation; without validation, ``HELD_OUT_SHARE`` of train
- validation missing: ``HELD_OUT_SHARE`` of train
- train missing: ``1 - HELD_OUT_SHARE`` of validation

Test then keeps all its rows, validation drops those that overlap with test, and train drops those
that overlap with either. Distractors and notes may be shared.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fseed.tasks.base import RowKey, RowProblem, Task
from fseed.tasks.near_duplicates import NearDuplicates, normalize_question
from fseed.tasks.rows import Rows
from fseed.tasks.sources import SPLITS, Source

HELD_OUT_SHARE = 0.15

# the split that must stay clean comes first
_PRIORITY = ("test", "validation", "train")


@dataclass
class Pool:
    """The rows of one split that may be used, and why the others may not.

    ``dropped`` counts rows that are no question at all, ``overlap`` rows that another split has.
    """

    rows: Rows
    entries: list[tuple[int, RowKey]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    overlap: Counter[str] = field(default_factory=Counter)

    @property
    def indices(self) -> list[int]:
        """Return the usable row numbers in stored order."""
        return [index for index, _ in self.entries]

    @property
    def num_rows(self) -> int:
        """Return the number of stored rows of the split."""
        return len(self.entries) + self.dropped.total() + self.overlap.total()


def build_pools(task: Task, source: Source) -> dict[str, Pool]:
    """Return a pool per split of the source, disjoint from each other."""
    pools = {name: _read_pool(task, rows) for name, rows in source.rows.items()}
    if task.cluster is not None:
        _name_clusters(task.cluster, pools)
    if not source.is_generated:
        _divide_missing(pools)
    _drop_overlap(pools, shared=task.shared)
    return {name: pools[name] for name in SPLITS if name in pools}


def hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on ``text`` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def is_test_id(row_id: str) -> bool:
    """Return whether a row of a published validation split belongs to our test split."""
    return hashlib.sha256(row_id.encode()).digest()[0] % 2 == 0


def _read_pool(task: Task, rows: Rows) -> Pool:
    """Return the readable rows, dropping malformed ones and repeated ids."""
    pool = Pool(rows)
    seen: set[str] = set()
    for index, row in enumerate(rows.read_keys()):
        try:
            if row is None:
                raise RowProblem("malformed row")
            key = task.read_key(row)
            if key.row_id in seen:
                raise RowProblem("repeated id")
        except RowProblem as problem:
            pool.dropped[str(problem)] += 1
            continue
        seen.add(key.row_id)
        pool.entries.append((index, key))
    return pool


def _name_clusters(cluster: Callable[[list[str]], list[str]], pools: dict[str, Pool]) -> None:
    """Replace the sequence of every key by the group of its cluster, over all splits at once."""
    sequences = [key.sequence for pool in pools.values() for _, key in pool.entries]
    names = iter(cluster(sequences))
    for pool in pools.values():
        pool.entries = [
            (index, replace(key, sequence="", groups=key.groups | {next(names)}))
            for index, key in pool.entries
        ]


def _divide_missing(pools: dict[str, Pool]) -> None:
    """Make the splits that the published data lacks, as the module says."""
    if "test" not in pools and "validation" in pools:
        _divide(pools, "validation", "test", is_test_id)
    if "test" not in pools:
        _divide(pools, "train", "test", lambda name: hash_fraction(name) < HELD_OUT_SHARE)
    if "validation" not in pools:
        _divide(
            pools, "train", "validation", lambda name: hash_fraction(name) >= 1 - HELD_OUT_SHARE
        )
    if "train" not in pools:
        _divide(pools, "validation", "train", lambda name: hash_fraction(name) >= HELD_OUT_SHARE)


def _divide(
    pools: dict[str, Pool], source: str, target: str, belongs: Callable[[str], bool]
) -> None:
    """Move rows of ``source`` to ``target``; what was dropped before counts with ``source``."""
    whole = pools[source]
    pools[source] = Pool(whole.rows, dropped=whole.dropped)
    pools[target] = Pool(whole.rows)
    for entry in whole.entries:
        moves = belongs(division_of(entry[1]))
        pools[target if moves else source].entries.append(entry)


def division_of(key: RowKey) -> str:
    """Return the text whose hash decides the split of a row."""
    if key.division is not None:
        return key.division
    return next(iter(key.groups)) if len(key.groups) == 1 else key.row_id


def _drop_overlap(pools: dict[str, Pool], *, shared: str) -> None:
    """Drop from each split what a split of higher priority has."""
    known = _Known(shared, [key.text for pool in pools.values() for _, key in pool.entries])
    for name in (split for split in _PRIORITY if split in pools):
        kept = []
        for index, key in pools[name].entries:
            reason = known.overlap_reason(key)
            if reason is None:
                kept.append((index, key))
            else:
                pools[name].overlap[reason] += 1
        pools[name].entries = kept
        known.add([key for _, key in kept])


class _Known:
    """The rows of the splits of higher priority."""

    def __init__(self, shared: str, texts: list[str]) -> None:
        self._shared = shared
        self._near = NearDuplicates(text for text in texts if text)
        self._ids: set[str] = set()
        self._texts: set[str] = set()
        self._groups: set[str] = set()

    def overlap_reason(self, key: RowKey) -> str | None:
        """Return how a row overlaps with the held-out rows, or None."""
        if key.row_id in self._ids:
            return "shared id"
        if key.text and normalize_question(key.text) in self._texts:
            return "shared question"
        if not self._groups.isdisjoint(key.groups):
            return self._shared
        return "near-duplicate question" if key.text and self._near.has_match(key.text) else None

    def add(self, keys: list[RowKey]) -> None:
        """Make rows known."""
        self._ids.update(key.row_id for key in keys)
        self._texts.update(normalize_question(key.text) for key in keys if key.text)
        self._groups.update(*(key.groups for key in keys))
        self._near.add(key.text for key in keys if key.text)
