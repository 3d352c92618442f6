"""The crossed bootstrap of all rows of a collection, each row computed once in its life."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from fseed.identity import source_fingerprint
from fseed.results.beside import beside
from fseed.results.measurement import Measurement
from fseed.results.memo import Memo
from fseed.results.statistics import MIN_SEEDS, Interval, crossed_bootstrap

BOOTSTRAP_SEED = 0  # of the draws: the same records give the same table
_CODE = ("results/statistics.py", "results/bootstraps.py")


def bootstrap_rows(measured: Sequence[Measurement | None], *, memo: Memo) -> list[Interval | None]:
    """Return one interval per row, None below three seeds; ``memo`` knows those of earlier."""
    keys = [_key(numbers) if numbers is not None else None for numbers in measured]
    batches: dict[Any, dict[str, Measurement]] = defaultdict(dict)
    for key, numbers in zip(keys, measured, strict=True):
        if key is not None and numbers is not None and memo.recall(key) is None:
            # rows with the same examples and seeds at once
            shape, units = numbers.item_differences.shape, numbers.units.tobytes()
            batches[shape, units][key] = numbers
    for rows in batches.values():
        for key, found in zip(rows, _bootstrap_halves([*rows.values()]), strict=True):
            memo.keep(key, [found.mean, found.low, found.high])
    kept = (memo.recall(key) if key is not None else None for key in keys)
    return [Interval(*numbers) if numbers is not None else None for numbers in kept]


def _bootstrap_halves(rows: Sequence[Measurement]) -> list[Interval]:
    """Return the intervals of rows, half of them computed beside this process where that pays."""
    middle = len(rows) // 2
    num_runs = sum(numbers.differences.size for numbers in rows)
    rest = beside(partial(_bootstrap, rows[middle:]), num_runs=num_runs)
    return [*(_bootstrap(rows[:middle]) if middle else ()), *rest()]


def _bootstrap(rows: Sequence[Measurement]) -> list[Interval]:
    return crossed_bootstrap(
        np.stack([numbers.item_differences for numbers in rows]),
        rows[0].units,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )


def _key(numbers: Measurement) -> str | None:
    """Return a digest of all that the interval of a row depends on; None where it has none."""
    # below three seeds it covers too little (paper/simulations)
    if numbers.differences.size < MIN_SEEDS or not numbers.units.sum():
        return None
    digest = hashlib.sha256(_versions().encode())
    for array in (numbers.item_differences, numbers.units):
        digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@cache
def _versions() -> str:
    """Return what decides the draws beside the numbers: this code and numpy's generator."""
    return f"{np.__version__} {source_fingerprint(_CODE)}"
