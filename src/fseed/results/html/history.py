"""What a run told while it trained: evaluations and gates against the tokens read so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from fseed.records import METRICS_FILE, RecordError, read_metrics
from fseed.results.runs import Run

_LARGEST = 1e300


@dataclass(frozen=True)
class Evaluation:
    """Scores of the validation split after ``step``; ``tokens`` None where a step lacks them."""

    step: int
    tokens: int | None
    values: dict[str, float]


@dataclass(frozen=True)
class GateReading:
    """The gate of every seeded layer, lowest first, after ``step``."""

    step: int
    tokens: int | None
    gates: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """One run over its steps; empty lists where metrics.jsonl is missing or holds nothing."""

    evaluations: list[Evaluation]
    gates: list[GateReading]


def read_history(run: Run) -> History:
    """Read metrics.jsonl of a run; torn lines and values that are no number are left out."""
    try:
        rows, _ = read_metrics(run.record.path / METRICS_FILE)
    except (OSError, RecordError):
        return History([], [])
    # a step that stands twice was repeated after a stop: the later row counts
    trained = {row["step"]: row for row in rows if row.get("kind") == "train"}
    scored = {row["step"]: row for row in rows if _is_validation(row)}
    tokens = _tokens_so_far(trained)
    evaluations = [
        Evaluation(step, tokens.get(step), _numbers(row.get("metrics")))
        for step, row in sorted(scored.items())
    ]
    return History(evaluations, _gates(trained, tokens))


def moved(readings: Sequence[GateReading]) -> bool:
    """Tell whether any gate changed between the first reading and the last."""
    return bool(readings) and any(one.gates != readings[0].gates for one in readings)


def _is_validation(row: Mapping[str, Any]) -> bool:
    return row.get("kind") == "evaluation" and row.get("split") == "validation"


def _tokens_so_far(trained: Mapping[int, Mapping[str, Any]]) -> dict[int, int]:
    """Return {step: tokens of all steps up to it} as far as every step tells its tokens."""
    total, found = 0, {0: 0}
    for step in range(1, len(trained) + 1):
        tokens = trained.get(step, {}).get("tokens")
        if not is_number(tokens) or tokens < 0:
            break
        total += int(tokens)
        found[step] = total
    return found


def _gates(
    trained: Mapping[int, Mapping[str, Any]], tokens: Mapping[int, int]
) -> list[GateReading]:
    readings = []
    for step, row in sorted(trained.items()):
        before = _floats(row.get("gates_before"))
        if not readings and step == 1 and before:
            readings.append(GateReading(0, 0, before))
        gates = _floats(row.get("gates"))
        if gates and (not readings or len(gates) == len(readings[0].gates)):
            readings.append(GateReading(step, tokens.get(step), gates))
    return readings


def _numbers(values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    return {str(name): float(value) for name, value in values.items() if is_number(value)}


def _floats(values: object) -> tuple[float, ...]:
    """Return a list of finite numbers as floats; nothing where it is anything else."""
    if not isinstance(values, list) or not all(is_number(value) for value in values):
        return ()
    return tuple(map(float, values))


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell a finite number of sane size from everything else a record may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # also false for NaN, and for whole numbers too large for a float
    return -_LARGEST < value < _LARGEST
