"""Notes about pairs in which memory ran out: one run took the same batches in smaller parts."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fseed.results.pairs import Arm
from fseed.results.runs import Run

# keys of result.json and what they count
_SIZES = {"micro_batch_size": "a backward pass", "eval_batch_size": "a scored batch"}


def find_memory_alarms(arms: Sequence[Arm]) -> list[str]:
    """Return one line for all pairs whose runs took different numbers of samples at a time."""
    found: dict[str, list[str]] = defaultdict(list)
    for arm in arms:
        for run, base in arm.pairs:
            for key, noun in _SIZES.items():
                own, other = _size(run, key), _size(base, key)
                if own is not None and other is not None and own != other:
                    text = f"{own} samples in {noun}, {other} in the baseline's"
                    found[text].append(str(run.record.path))
    return [
        f"memory ran out, so that a run took its batches in smaller parts ({text}): the examples "
        f"are the same, sums may differ in their last digits: {', '.join(paths)}"
        for text, paths in found.items()
    ]


def _size(run: Run, key: str) -> int | None:
    value: Any = (run.record.result or {}).get(key)
    return value if type(value) is int else None
