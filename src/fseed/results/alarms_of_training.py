"""Alarms about what training did: gates that stand still, idle clips, NaN, torn metric lines."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fseed.results.runs import Run
from fseed.results.scalars import as_float

_NEVER_BINDS = "can never bind"  # of the note that a run writes beside its result


def find_training_alarms(runs: Sequence[Run]) -> list[str]:
    """Return the alarms about gates, clips, numbers that are none, and torn lines."""
    return [
        *group_paths((text, run) for run in runs for text in _unmoved_gates(run)),
        *_idle_clips(runs),
        *group_paths((text, run) for run in runs for text in _not_finite(run)),
        *_torn_lines(runs),
    ]


def group_paths(found: Iterable[tuple[str, Run]]) -> list[str]:
    """Return one line per text with the paths of all its runs."""
    paths: dict[str, list[str]] = defaultdict(list)
    for text, run in found:
        paths[text].append(str(run.record.path))
    return [f"{text}: {', '.join(told)}" for text, told in paths.items()]


def _unmoved_gates(run: Run) -> Iterator[str]:
    """Report trainable gates that end on the value that they started with."""
    # the gates of an A/A arm have strength 0 and get no gradient
    if run.settings.get("control.kind") == "aa" or not _is_trainable(run.settings):
        return
    first, last = _gates(run, "first"), _gates(run, "last")
    if len(first) != len(last):
        return
    still = [
        index for index, gates in enumerate(zip(first, last, strict=True)) if gates[0] == gates[1]
    ]
    if still and len(still) == len(first):
        yield "trainable gates did not move at all"
    elif still:
        yield f"{len(still)} of {len(first)} trainable gates did not move"


def _idle_clips(runs: Sequence[Run]) -> list[str]:
    """Report clips that no entry of a state can reach, one line an arm.

    Where a run says so itself, its own words are kept.
    """
    noted: list[tuple[str, Run]] = []
    reach: dict[Any, list[tuple[float, Run]]] = defaultdict(list)
    for run in runs:
        note, largest = _clip_note(run), _largest_entry(run)
        clip = as_float(run.settings.get("fs_variant.clip"))
        if note is not None:
            noted.append((note, run))
        elif clip is not None and largest is not None and 0 < largest <= clip:
            reach[run.labels, run.arm, clip].append((largest, run))
    for (*_, clip), found in reach.items():
        largest = max(entry for entry, _ in found)
        text = f"fs_variant.clip={clip:g} {_NEVER_BINDS}: gate x head size = {largest:.3g} at most"
        noted += [(text, run) for _, run in found]
    return group_paths(noted)


def _clip_note(run: Run) -> str | None:
    notes = (run.record.result or {}).get("notes")
    told = notes if isinstance(notes, list) else []
    return next((note for note in told if isinstance(note, str) and _NEVER_BINDS in note), None)


def _largest_entry(run: Run) -> float | None:
    """Return the largest entry that a carried state can have; None where records cannot tell.

    The largest entry of a state with root mean square 1 is the head size. Gates are known at the
    start and the end of training; of input gates and gates per head only a mean is recorded, so
    that a run's own note decides there.
    """
    settings = run.settings
    is_known = (
        settings.get("fs.mode") == "prompt_fs"
        and settings.get("control.kind") != "aa"
        and settings.get("fs_variant.norm") == "rms"
        and settings.get("fs_variant.gate") in ("scalar", "raw")
    )
    head_size = as_float(settings.get("model.head_size"))
    if not is_known or head_size is None:
        return None
    gates = [abs(gate) for when in ("first", "last") for gate in _gates(run, when)]
    return max(gates) * head_size if gates else None


def _not_finite(run: Run) -> Iterator[str]:
    """Report NaN and infinity in what a run scored and in its gates, and runs that NaN ended."""
    if (run.record.failure or {}).get("class") == "nan":
        yield "NaN ended the run"
    for name, step, value in _scores(run):
        if not math.isfinite(value):
            yield f"{name} at step {step} is {value}"
            return
    if not all(math.isfinite(gate) for when in ("first", "last") for gate in _gates(run, when)):
        yield "a gate is not finite"


def _scores(run: Run) -> Iterator[tuple[str, Any, float]]:
    """Yield (name, step, value) of every number of every evaluation, whatever else is recorded."""
    evaluations = (run.record.result or {}).get("evaluations")
    for entry in evaluations if isinstance(evaluations, list) else ():
        # what JSON holds is a dict; to ask for any mapping takes as long as all the rest
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        for name, told in metrics.items() if isinstance(metrics, dict) else ():
            value = as_float(told.get("value")) if isinstance(told, dict) else None
            if value is not None:
                yield name, entry.get("step"), value


def _is_trainable(settings: Mapping[str, Any]) -> bool:
    if settings.get("fs.mode") != "prompt_fs":
        return False
    rates = {"alpha.lr"}
    rates |= {"head": {"fs_variant.head_lr"}, "inputgate": {"fs_variant.input_lr"}}.get(
        str(settings.get("fs_variant.gate")), set()
    )
    return any((as_float(settings.get(name)) or 0.0) > 0 for name in rates)


def _gates(run: Run, when: str) -> list[float]:
    """Return strength times gate of every seeded layer, ``first`` or ``last``."""
    told = (run.record.result or {}).get("gates")
    values = told.get(when) if isinstance(told, dict) else None
    numbers = [as_float(value) for value in values] if isinstance(values, list) else []
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else []


def _torn_lines(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.log_problem}: {run.record.path}/metrics.jsonl"
        for run in runs
        if run.log_problem is not None
    ]
