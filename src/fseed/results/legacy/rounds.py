"""Summaries of the search rounds: one claim per line, in fractions or in percent."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from fseed.results.legacy.model import Claim, Contents
from fseed.results.legacy.studies import study_name, text_lines
from fseed.results.legacy.vocabulary import STAGES, round_of

_FIGURE = re.compile(r"(baseline|fs|acc|d_acc|loss|R@1|d_R@1|bsz|seed)=([+-]?[\d.]+)(%|pp)?")
_HEADER = re.compile(r"\[([^\]]+)\](.*)$")
_ARM_LINE = re.compile(r"(\w+)\s+d_acc=")
_TITLE = re.compile(r"Round\d+ .*", re.IGNORECASE)
_NOTHING = re.compile(r"baseline failed( or missing)?$")
_WORDS = ("quick candidates:", "quick deltas:", "med confirmed: none")


@dataclass(frozen=True)
class _Place:
    """Where in a summary a line stands."""

    stage: str = "quick"
    task: str | None = None
    arm: str | None = None
    batch_size: int | None = None


def read_round(path: Path, text: str, contents: Contents) -> None:
    """Add the claims of a round summary; a baseline that failed is a number that is missing.

    A text without a single such line is foreign; else every other line is a problem.
    """
    place = _Place()
    odd: list[str] = []
    understood = 0
    for number, line in text_lines(text):
        header = _HEADER.match(line)
        if header is not None and not header.group(2).strip():
            place = _enter(header.group(1), place)
        elif _NOTHING.match(line) is not None:
            contents.tell_missing(f"{path}:{number}", _subject(path, place), line)
            understood += 1
        elif line.removesuffix(":") in ("med confirmed", "quick confirmed"):
            place = replace(place, stage=STAGES[line.split()[0]])
        elif line in _WORDS or _TITLE.match(line) is not None:
            continue
        elif not (claims := _claims(path, number, line, place)):
            odd.append(f"{path}:{number}: not understood: {line[:80]}")
        else:
            contents.claims += claims
            understood += 1
    if understood:
        contents.problems += odd
    else:
        contents.foreign.append(path)


def _enter(header: str, place: _Place) -> _Place:
    """Return the place below ``[header]``: a stage, a batch size, a task, or task + arm."""
    if header in STAGES:
        return replace(place, stage=STAGES[header])
    if header.startswith("bsz="):
        return _Place(batch_size=int(header.removeprefix("bsz=")))
    task, _, arm = header.partition(" + ")
    return _Place(task=task, arm=arm or None)


def _claims(path: Path, number: int, line: str, place: _Place) -> list[Claim]:
    """Return what a line claims: one run, or baseline and arm of a seed."""
    told = {name: (float(value), unit) for name, value, unit in _FIGURE.findall(line)}
    sides = _sides(line, told, place)
    if not sides or not told:
        return []
    fixed = Claim(
        path=path,
        line=number,
        study=round_of(study_name(path)) or study_name(path),
        stage=_stage(line, place),
        task=place.task,
        arm=None,
        seed=int(told["seed"][0]) if "seed" in told else None,
        batch_size=int(told["bsz"][0]) if "bsz" in told else place.batch_size,
        is_mean=line.startswith("mean "),
    )
    loss = told["loss"][0] if "loss" in told else None
    return [
        replace(fixed, arm=arm, accuracy=accuracy, difference=difference, loss=loss)
        for arm, accuracy, difference in sides
    ]


def _sides(
    line: str, told: dict[str, tuple[float, str]], place: _Place
) -> list[tuple[str | None, float | None, float | None]]:
    """Return (arm, accuracy, difference) of every run that a line tells of."""
    values = {name: _fraction(*figure) for name, figure in told.items()}
    header = _HEADER.match(line)
    difference = values.get("d_acc", values.get("d_R@1"))
    if line.startswith("seed=") and "baseline" in values:
        return [("baseline", values["baseline"], None), (place.arm, values["fs"], difference)]
    if header is not None:  # [baseline] R@1=...
        return [(header.group(1), values.get("R@1"), None)]
    if line.startswith("baseline "):
        return [("baseline", values.get("acc"), None)]
    if line.startswith("delta FS-baseline"):
        return [("fs", None, difference)]
    if line.startswith("mean d_acc="):
        return [(place.arm, None, difference)]
    if line.startswith(("fs ", "seed=")):
        return [(place.arm, values.get("acc"), difference)]
    arm = _ARM_LINE.match(line)
    return [(arm.group(1), values.get("acc"), difference)] if arm is not None else []


def _stage(line: str, place: _Place) -> str:
    """Return the stage that a line names, else that of its place."""
    word = line.partition(":")[0].rpartition(" ")[2]
    return STAGES.get(word, place.stage)


def _fraction(value: float, unit: str) -> float:
    return value / 100 if unit in ("%", "pp") else value


def _subject(path: Path, place: _Place) -> str:
    parts = (round_of(study_name(path)), place.task)
    size = f"batch {place.batch_size}" if place.batch_size is not None else None
    return " ".join(part for part in (*parts, size) if part)
