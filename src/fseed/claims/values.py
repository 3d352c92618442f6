"""From a reference key to the text that a document must hold.

``EXPERIMENT[/PART...].FIELD[:DIGITS]``. The parts are labels of a row of the paired table (task,
source, model, stage, setting, arm), in any order, as many as tell it from the others; with a part
``s<seed>`` they are labels of a run. Without parts the field is of the whole experiment.

| key | text |
|---|---|
| demo/scalar_l10.difference | +0.18 |
| demo/hotpot/scalar_l10.interval | [-0.20, +0.55] |
| demo/scalar_l10.constant_value:1 | 40.8 |
| demo/no_fs/s0.loss:2 | 2.59 |
| demo.num_runs | 6 |
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fseed.claims.experiment_checks import Published
from fseed.errors import UserError, did_you_mean
from fseed.results.comparison import Comparison
from fseed.results.formats import MISSING, interval, plain, seed_ranges
from fseed.results.runs import Run

_KEY = re.compile(r"(?P<name>\w+)(?P<parts>(?:/[^/]+)*)\.(?P<field>\w+)(?::(?P<digits>\d))?")
_SEED = re.compile(r"s-?\d+")

PERCENT, POINTS = "%", "pp"
_PERCENT_FIELDS = ("baseline_value", "arm_value", "constant_value")
_POINT_FIELDS = (
    *("difference", "interval_low", "interval_high", "bootstrap_low", "bootstrap_high"),
    *("detectable_difference", "equivalence_margin"),
)
# made of several columns of a row
_JOINED: dict[str, Callable[[Comparison], str]] = {
    "interval": lambda row: interval(row.interval_low, row.interval_high, kind=row.interval_kind),
    "bootstrap": lambda row: interval(row.bootstrap_low, row.bootstrap_high, kind=None),
    "signs": lambda row: f"{row.num_up}/{row.num_tied}/{row.num_down}",
    "seeds": lambda row: seed_ranges(row.seeds),
}
_RUN_COSTS = ("steps", "tokens", "answer_tokens", "wall_seconds", "peak_memory_gib")


@dataclass(frozen=True)
class Value:
    """The text of a reference and its unit: "%", "pp", or None where it has none."""

    text: str
    unit: str | None = None


def resolve(key: str, published: Mapping[str, Published]) -> Value:
    """Return the text behind ``key``; UserError says which part of it names nothing."""
    match = _KEY.fullmatch(key.strip())
    if match is None:
        raise UserError(f"{key!r} is no EXPERIMENT[/PART...].FIELD[:DIGITS]")
    name, field = match["name"], match["field"]
    if name not in published:
        raise UserError(f"no archived experiment {name!r}{did_you_mean(name, published)}")
    parts = [part for part in match["parts"].split("/") if part]
    digits = int(match["digits"]) if match["digits"] is not None else None
    one = published[name]
    if not parts:
        return _of_experiment(one, field, digits=digits)
    if any(_SEED.fullmatch(part) for part in parts):
        return _of_run(_find_run(one, parts), field, digits=digits)
    return _of_row(find_row(one, parts), field, digits=digits)


def find_row(published: Published, parts: list[str]) -> Comparison:
    """Return the one row whose labels include ``parts``; UserError for none or several."""
    rows = published.collection.comparisons
    found = rows_of(rows, parts)
    if len(found) == 1:
        return found[0]
    labels = sorted({label for row in found or rows for label in row_labels(row)})
    what = f"{len(found)} rows" if found else "no row"
    raise UserError(
        f"{what} of {published.experiment.name} for {'/'.join(parts)}; labels: {', '.join(labels)}"
    )


def rows_of(rows: Sequence[Comparison], parts: Sequence[str]) -> list[Comparison]:
    """Return the rows whose labels include all ``parts``."""
    return [row for row in rows if set(parts) <= row_labels(row)]


def row_labels(row: Comparison) -> set[str]:
    """Return the labels by which a row is named."""
    return {row.task, row.source, row.model, row.stage, row.arm, row.setting} - {""}


def _find_run(published: Published, parts: list[str]) -> Run:
    wanted = set(parts)
    runs = published.collection.runs
    found = [run for run in runs if wanted <= {*run.labels, run.arm, f"s{run.seed}"}]
    if len(found) != 1:
        raise UserError(f"{len(found)} runs of {published.experiment.name} for {'/'.join(parts)}")
    return found[0]


def _of_experiment(published: Published, field: str, *, digits: int | None) -> Value:
    counts = published.collection.counts
    known = {"num_runs": len(published.collection.runs)} | {
        f"num_{status}": counts.get(status, 0) for status in ("finished", "failed", "invalid")
    }
    if field in (*known, "registered", "role"):
        _refuse_digits(field, digits)
    if field in known:
        return Value(plain(known[field]))
    if field in ("registered", "role"):
        return Value(getattr(published.experiment, field))
    raise UserError(f"an experiment has no field {field!r}{did_you_mean(field, known)}")


def _of_run(run: Run, field: str, *, digits: int | None) -> Value:
    if run.status != "finished":
        raise UserError(f"{run.record.path.name} is {run.status} and has no {field}")
    result = run.record.result or {}
    if field in _RUN_COSTS:
        if not isinstance(result.get(field), float):
            _refuse_digits(field, digits)
        return Value(plain(result.get(field), digits=digits))
    scores = run.first if field.startswith("first_") else run.last
    name = field.removeprefix("first_")
    if name not in scores:
        near = did_you_mean(name, scores)
        raise UserError(f"{run.record.path.name} has no {field!r}{near}")
    if name.startswith("loss"):
        return Value(plain(scores[name], digits=4 if digits is None else digits))
    return Value(_percent(scores[name], digits=digits), PERCENT)


def _of_row(row: Comparison, field: str, *, digits: int | None) -> Value:
    if field in _JOINED:
        _refuse_digits(field, digits)
        text = _JOINED[field](row)
        return Value(text, POINTS if text.startswith("[") else None)
    known = [entry.name for entry in fields(Comparison)]
    if field not in known:
        near = did_you_mean(field, [*known, *_JOINED])
        raise UserError(f"a row has no field {field!r}{near}")
    value = getattr(row, field)
    if value is None:
        raise UserError(f"{field} of {row.arm} was not measured: {row.verdict}, {row.reason}")
    if field in _PERCENT_FIELDS:
        return Value(_percent(value, digits=digits), PERCENT)
    if field in _POINT_FIELDS:
        places = 2 if digits is None else digits
        return Value(_unsigned_zero(f"{100 * value:+.{places}f}"), POINTS)
    return Value(_plain_field(field, value, digits=digits))


def _plain_field(field: str, value: Any, *, digits: int | None) -> str:
    if field == "loss_difference":
        return _unsigned_zero(f"{value:+.{4 if digits is None else digits}f}")
    if isinstance(value, float):
        return _unsigned_zero(f"{value:.3g}" if digits is None else f"{value:.{digits}f}")
    _refuse_digits(field, digits)
    return str(value) if isinstance(value, str | bool) else plain(value)


def _percent(fraction: float | None, *, digits: int | None) -> str:
    if fraction is None:
        return MISSING
    return f"{100 * fraction:.{2 if digits is None else digits}f}"


def _unsigned_zero(text: str) -> str:
    """Drop the sign of a negative number that rounds to zero."""
    return text.removeprefix("-") if text.startswith("-") and float(text) == 0 else text


def _refuse_digits(field: str, digits: int | None) -> None:
    if digits is not None:
        raise UserError(f"{field} takes no digits; leave out :{digits}")
