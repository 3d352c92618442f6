"""Numbers and lines as people read them: percent, pp, intervals, seeds, captions."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from fseed.results.comparison import Comparison
from fseed.results.measurement import OVER_ITEMS
from fseed.results.runs import Run
from fseed.results.scalars import as_mapping, finite_number

MISSING = "-"
ITEMS_MARK = " *"


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, two digits."""
    return MISSING if fraction is None else f"{100 * fraction:.2f}"


def points(fraction: float | None) -> str:
    """Return a difference of fractions in percentage points, signed."""
    return MISSING if fraction is None else _without_minus_zero(f"{100 * fraction:+.2f}")


def signed(value: float | None) -> str:
    """Return a difference of losses, signed, four digits."""
    return MISSING if value is None else _without_minus_zero(f"{value:+.4f}")


def _without_minus_zero(text: str) -> str:
    return text.replace("-", "+") if float(text) == 0 else text


def plain(value: Any, *, digits: int | None = None) -> str:
    """Return whole numbers with thousands separators, others with ``digits`` after the point."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:,.{digits if digits is not None else 2}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def interval(low: float | None, high: float | None, *, kind: str | None) -> str:
    """Return ``[low, high]`` in pp; marked when it is over examples only."""
    if low is None or high is None:
        return MISSING
    return f"[{points(low)}, {points(high)}]" + (ITEMS_MARK if kind == OVER_ITEMS else "")


def seed_ranges(seeds: str) -> str:
    """Fold runs of seeds: ``0,1,2,5`` becomes ``0-2,5``; other text stays as it is."""
    parts = seeds.split(",")
    if not all(part.isdigit() for part in parts):
        return seeds
    numbers = sorted(map(int, parts))
    # consecutive numbers keep their distance to their position
    groups = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def seed_words(seeds: str) -> str:
    """Return ``seed 0`` or ``seeds 0-2``."""
    return f"{'seeds' if ',' in seeds else 'seed'} {seed_ranges(seeds)}"


def paired_cells(row: Comparison) -> dict[str, str]:
    """Return the cells of one row of the paired table, by column heading."""
    signs = f"{row.num_up}/{row.num_tied}/{row.num_down}" if row.num_up is not None else MISSING
    pairs = "" if row.num_pairs in (0, row.num_runs) else f" ({row.num_pairs} of {row.num_runs})"
    return {
        # a control stands below its arm
        "arm": row.arm if row.control_of is None else f"  {row.arm}",
        "seeds": seed_ranges(row.seeds) + pairs,
        "no_fs %": percent(row.baseline_value),
        "arm %": percent(row.arm_value),
        "diff pp": points(row.difference),
        "95 % interval": interval(row.interval_low, row.interval_high, kind=row.interval_kind),
        "+/0/-": signs,
        "n": plain(row.num_examples),
        "loss diff": signed(row.loss_difference),
        "verdict": row.verdict.replace("no_matched_baseline", "no matched baseline"),
    }


def evidence_cells(row: Comparison) -> dict[str, str]:
    """Return the cells that tell how a row was tested, for the forms with room for them."""
    is_tested = row.family_size is not None and row.control == "none"
    family = f"{row.adjustment} over {row.family_size}" if is_tested else MISSING
    return {
        "p": p_value(row.p_value),
        "p adjusted": p_value(row.p_adjusted),
        "family": family,
        "p equivalent": p_value(row.equivalence_p),
        "margin pp": percent(row.equivalence_margin),
        "detectable pp": percent(row.detectable_difference),
        "more seeds": plain(row.more_seeds_needed),
    }


def p_value(value: float | None) -> str:
    """Return a p value, two significant digits."""
    return MISSING if value is None else f"{value:.2g}"


def run_cells(run: Run) -> dict[str, str]:
    """Return the cells of one row of the run table."""
    result = run.record.result or {}
    metric = run.primary_metric or ""
    return {
        "task": run.labels[0],
        "arm": run.arm,
        "seed": MISSING if run.seed is None else str(run.seed),
        "status": run.status,
        "metric": metric or MISSING,
        "constant %": percent(_baseline(result, "constant_baseline", metric)),
        "copy %": percent(_baseline(result, "copy_baseline", metric)),
        "first %": percent(run.first.get(metric)),
        "last %": percent(run.last.get(metric)),
        "n": plain(run.counts.get(metric)),
        "loss 0": plain(run.first.get("loss"), digits=4),
        "loss": plain(run.last.get("loss"), digits=4),
        "steps": plain(result.get("steps")),
        "tokens": plain(result.get("tokens")),
        "seconds": plain(result.get("wall_seconds"), digits=1),
        "run": run.run_id or MISSING,
    }


def caption_of(row: Comparison) -> str:
    """Return the line above the table that ``row`` belongs to."""
    place = f"task {row.task}, source {row.source}, model {row.model}, stage {row.stage}"
    setting = f", {row.setting}" if row.setting else ""
    return place + setting + (f": {row.metric} on {row.split}" if row.metric is not None else "")


def tables_of(rows: Sequence[Comparison]) -> Iterator[tuple[str, list[Comparison]]]:
    """Yield (caption, rows) for every task, source, model, stage and setting: never one table."""

    def place(row: Comparison) -> tuple[str, ...]:
        return row.task, row.source, row.model, row.stage, row.setting

    for _, group in groupby(sorted(rows, key=place), key=place):
        members = list(group)
        measured = next((row for row in members if row.metric is not None), members[0])
        yield caption_of(measured), members


def _baseline(result: Mapping[str, Any], name: str, metric: str) -> float | None:
    return finite_number(as_mapping(result.get(name)).get(metric))
