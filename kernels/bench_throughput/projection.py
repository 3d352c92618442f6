"""GPU minutes of a whole search, from what was measured: this trainer against the way before.

The search of round 21, matched: 3 tasks, 5 arms (the baseline among them), a quick and a medium
stage, 5 seeds each. Before: a process a run, one at a time, nothing fused. Now: the trainer of this
project, in a worker process that stays (``launcher.reuse=true``).

A run = start + steps * step + 2 scorings of the validation split (+ decoded answers of mbpp, once,
as many tokens as are allowed). A step or a scored batch between two measured lengths is
interpolated in the tokens; below the shortest it is the shortest's, beyond the longest it grows in
proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from bench_throughput.jobs import parse_shape
from bench_throughput.rows import Row, select

STAGE_STEPS = {"quick": 140, "medium": 380}  # conf/budget/steps_140, steps_380
BATCH, NUM_ARMS, NUM_SEEDS = 2, 5, 5
NUM_VALIDATION, SCORINGS = 200, 2  # conf/data; before the first and after the last step


@dataclass(frozen=True)
class SearchTask:
    """Lengths of a task with the World vocabulary; ``decoded``: tokens of a decoded answer."""

    name: str
    length: int
    decoded: int = 0


TASKS = (
    SearchTask("mbpp", 3072, decoded=256),
    SearchTask("protein_ss", 2048),
    SearchTask("protein_contact", 1536),
)


@dataclass(frozen=True)
class Side:
    """What was measured of one way to run the search."""

    trainer: str
    first_start: float  # seconds, cold
    later_start: float  # of every further run
    steps: dict[int, float]  # length -> seconds of a step of BATCH examples
    scored: dict[int, float]  # tokens of a batch -> seconds
    scored_batch: int  # examples
    decoded_per_second: float | None


@dataclass(frozen=True)
class Projected:
    """GPU minutes by what they are spent on."""

    starting: float
    training: float
    scoring: float
    decoding: float

    @property
    def total(self) -> float:
        """Return all minutes."""
        return self.starting + self.training + self.scoring + self.decoding


def read_side(rows: Sequence[Row], trainer: str, *, process_per_run: bool) -> Side | None:
    """Return the measurements of ``trainer``; None where steps or scorings are missing."""
    trained = [row for row in _timed(rows, trainer) if parse_shape(row["shape"]).batch == BATCH]
    scored = select(rows, kind="score", trainer=trainer)
    cold = [row["cold_seconds"] for row in _timed(rows, trainer) if "cold_seconds" in row]
    again = [
        row["set_up_seconds"] + row["first_step_seconds"]
        for row in _timed(rows, trainer)
        if "cold_seconds" not in row
    ]
    if not trained or not scored or not cold:
        return None
    later = cold[-1] if process_per_run or not again else sorted(again)[len(again) // 2]
    return Side(
        trainer=trainer,
        first_start=cold[-1],
        later_start=later,
        steps={parse_shape(r["shape"]).length: r["milliseconds"] / 1e3 for r in trained},
        scored={row["tokens"]: row["milliseconds"] / 1e3 for row in scored},
        scored_batch=parse_shape(scored[-1]["shape"]).batch,
        decoded_per_second=scored[-1]["decoded_per_second"],
    )


def _timed(rows: Sequence[Row], trainer: str) -> list[Row]:
    return select(rows, kind="train", purpose="compare", trainer=trainer)


def project(side: Side, *, tasks: Sequence[SearchTask] = TASKS) -> Projected:
    """Return the GPU minutes of the search."""
    runs_per_stage = NUM_ARMS * NUM_SEEDS
    num_runs = len(tasks) * len(STAGE_STEPS) * runs_per_stage
    starting = side.first_start + (num_runs - 1) * side.later_start
    training = scoring = decoding = 0.0
    for task in tasks:
        step = interpolate(side.steps, task.length)
        training += runs_per_stage * sum(STAGE_STEPS.values()) * step
        runs = runs_per_stage * len(STAGE_STEPS)
        batches = ceil(NUM_VALIDATION / side.scored_batch)
        batch = interpolate(side.scored, side.scored_batch * task.length)
        scoring += runs * SCORINGS * batches * batch
        if task.decoded and side.decoded_per_second is not None:
            decoding += runs * NUM_VALIDATION * task.decoded / side.decoded_per_second
    return Projected(*(seconds / 60 for seconds in (starting, training, scoring, decoding)))


def interpolate(known: dict[int, float], at: int) -> float:
    """Return the value at ``at``: linear between its neighbours, see the head of this file."""
    places = sorted(known)
    below = [place for place in places if place <= at]
    above = [place for place in places if place >= at]
    if not below or not above:
        nearest = places[0] if not below else places[-1]
        return known[nearest] * (at / nearest if at > nearest else 1.0)
    low, high = below[-1], above[0]
    if low == high:
        return known[low]
    share = (at - low) / (high - low)
    return known[low] + share * (known[high] - known[low])
