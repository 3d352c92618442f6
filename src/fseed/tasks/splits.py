"""Three splits that share no id, no question and no gold paragraph.

The published data has train and validation only; its validation rows are divided into validation
and test by a hash of the id. Test keeps all its rows, validation drops those that overlap with
test, and train drops those that overlap with either. Distractor paragraphs may be shared.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from fseed.tasks.base import RowKey, RowProblem, Task
from fseed.tasks.near_duplicates import NearDuplicates, normalize_question
from fseed.tasks.rows import Rows
from fseed.tasks.sources import Source

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
    pools: dict[str, Pool] = {}
    for name, rows in source.rows.items():
        pool = _read_pool(task, rows)
        if name == "validation" and not source.is_generated:
            pools["validation"], pools["test"] = _divide(pool)
        else:
            pools[name] = pool
    _drop_overlap(pools)
    return pools


def is_test_id(row_id: str) -> bool:
    """Return whether a row of the published validation split belongs to our test split."""
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


def _divide(pool: Pool) -> tuple[Pool, Pool]:
    """Return validation and test; rows dropped before they had an id count as validation."""
    validation, test = Pool(pool.rows, dropped=pool.dropped), Pool(pool.rows)
    for entry in pool.entries:
        (test if is_test_id(entry[1].row_id) else validation).entries.append(entry)
    return validation, test


def _drop_overlap(pools: dict[str, Pool]) -> None:
    """Drop from each split what a split of higher priority has."""
    near = NearDuplicates(key.question for pool in pools.values() for _, key in pool.entries)
    ids: set[str] = set()
    questions: set[str] = set()
    gold: set[str] = set()
    for name in (split for split in _PRIORITY if split in pools):
        kept = []
        for index, key in pools[name].entries:
            reason = _overlap_reason(key, ids, questions, gold, near)
            if reason is None:
                kept.append((index, key))
            else:
                pools[name].overlap[reason] += 1
        pools[name].entries = kept
        keys = [key for _, key in kept]
        ids.update(key.row_id for key in keys)
        questions.update(normalize_question(key.question) for key in keys)
        gold.update(*(key.gold for key in keys))
        near.add(key.question for key in keys)


def _overlap_reason(
    key: RowKey, ids: set[str], questions: set[str], gold: set[str], near: NearDuplicates
) -> str | None:
    """Return how a row overlaps with the held-out rows, or None."""
    if key.row_id in ids:
        return "shared id"
    if normalize_question(key.question) in questions:
        return "shared question"
    if not gold.isdisjoint(key.gold):
        return "shared gold paragraph"
    return "near-duplicate question" if near.has_match(key.question) else None
