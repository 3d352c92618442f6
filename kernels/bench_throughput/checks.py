"""Who trained the same thing: batches, losses and gradient norms of the first steps side by side.

A row that is not equal to its judge's has no speed. Compute is bf16 in all trainers, so equal means
within the tolerances below; a wrong loss, a missing clip or another batch is far beyond them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench_throughput.jobs import CHECK_STEPS, find_trainer
from bench_throughput.rows import Row, latest

# relative, each of the first steps; AdamW's first updates are signs, so gradient norms count too
LOSS_TOLERANCE = 1e-2
GRAD_NORM_TOLERANCE = 8e-2


@dataclass(frozen=True)
class Verdict:
    """How far a training is from its judge's; ``problem`` is empty where they are equal."""

    problem: str
    loss_distance: float | None = None
    norm_distance: float | None = None

    @property
    def is_equal(self) -> bool:
        """Tell whether the speed means anything."""
        return not self.problem


def judge(rows: Sequence[Row], row: Row) -> Verdict:
    """Compare a training with its judge's on the same shape and device."""
    if not all(math.isfinite(value) for value in row["losses"]):
        return Verdict("a loss is not finite")
    name = find_trainer(row["trainer"]).judge
    if name is None:
        return Verdict("")
    reference = find_judge(rows, name, shape=row["shape"], device=row["device"])
    if reference is None:
        return Verdict(f"{name} has no losses at {row['shape']} to compare with")
    if reference["batches"] != row["batches"]:
        return Verdict(f"not the batches of {name}")
    loss, norm = (
        _distance(row[key][:CHECK_STEPS], reference[key][:CHECK_STEPS])
        for key in ("losses", "grad_norms")
    )
    problem = ""
    if not loss <= LOSS_TOLERANCE:
        problem = f"losses are {loss:.1%} from {name}, above {LOSS_TOLERANCE:.0%}"
    elif not norm <= GRAD_NORM_TOLERANCE:
        problem = f"gradient norms are {norm:.1%} from {name}, above {GRAD_NORM_TOLERANCE:.0%}"
    return Verdict(problem, loss, norm)


def find_judge(rows: Sequence[Row], name: str, *, shape: str, device: str) -> Row | None:
    """Return the training of ``name`` that was timed, else the one of the first steps alone."""
    for purpose in ("compare", "check", "curves"):
        wanted = {"kind": "train", "trainer": name, "shape": shape, "device": device}
        found = latest(rows, purpose=purpose, **wanted)
        if found is not None:
            return found
    return None


def _distance(values: Sequence[float], wanted: Sequence[float]) -> float:
    """Return the largest relative distance; infinite where steps are missing."""
    if len(values) != len(wanted) or not wanted:
        return math.inf
    return max(abs(a - b) / abs(b) for a, b in zip(values, wanted, strict=True))
