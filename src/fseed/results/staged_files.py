"""The two files of a staged sweep, read: plan.json and decisions.jsonl in ``<root>/<sweep>/``.

plan.json says what was meant to run before anything ran: arms, stages, seeds, rule.
decisions.jsonl holds one decision a line, with the differences it was taken from. Fractions.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fseed.record_schema import check_size, one_line
from fseed.records import RecordError

PLAN_FILE = "plan.json"
DECISIONS_FILE = "decisions.jsonl"
STAGED_SCHEMA_VERSION = 1
RULES = ("race", "halving", "threshold")
STATES = ("passed", "dropped", "continues")
STAGES = ("quick", "medium", "confirm")

_T = TypeVar("_T")


@dataclass(frozen=True)
class PlanArm:
    """One registered arm; ``control_of`` is the label of the arm that a control stands beside."""

    label: str
    arm_key: str
    control: str
    control_of: str | None


@dataclass(frozen=True)
class PlanStage:
    """One stage: its seeds, and the numbers of seeds after which it decides."""

    name: str
    seeds: tuple[int, ...]
    rungs: tuple[int, ...]


@dataclass(frozen=True)
class StagedPlan:
    """plan.json; ``rules`` are the numbers of the rule, fractions."""

    path: Path
    sweep: str
    rule: str
    rules: dict[str, Any]
    tasks: tuple[str, ...]
    arms: tuple[PlanArm, ...]
    stages: tuple[PlanStage, ...]
    command: tuple[str, ...]
    code_hash: str
    created_at: str


@dataclass(frozen=True)
class DecisionInput:
    """One pair that a decision was taken from; the difference is a fraction."""

    seed: int
    arm_run_id: str
    baseline_run_id: str
    difference: float


@dataclass(frozen=True)
class StageDecision:
    """One line of decisions.jsonl. ``state``: passed | dropped | continues."""

    path: Path
    line: int  # 1-based
    task: str
    stage: str
    rung: int
    arm: str
    arm_key: str
    state: str
    reason: str  # code
    text: str
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    num_seeds: int
    p: float | None
    inputs: tuple[DecisionInput, ...]
    rule: str


def read_plan(folder: Path) -> StagedPlan | None:
    """Return the plan of the sweep in ``folder``, None where it has none.

    Raises:
        RecordError: if the file cannot be read or is no plan; the message starts with its path.
    """
    path = folder / PLAN_FILE
    try:
        check_size(path)
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, RecordError) as error:
        raise RecordError(f"{path}: {one_line(error)}") from error
    return _parse(_plan, data, path, place=str(path))


def read_decisions(folder: Path) -> list[StageDecision]:
    """Return the decisions of the sweep in ``folder`` in the order taken; no file, no decisions.

    A last line without its end was torn by a kill while it was written and is left out: what it
    decided is decided again.

    Raises:
        RecordError: for any other line that is no decision; the message holds path and line.
    """
    path = folder / DECISIONS_FILE
    try:
        check_size(path)
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except (OSError, RecordError) as error:
        raise RecordError(f"{path}: {one_line(error)}") from error
    return [_decision_line(path, number, line) for number, line in enumerate(lines, start=1)]


def _decision_line(path: Path, number: int, line: bytes) -> StageDecision:
    place = f"{path}:{number}"
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: {one_line(error)}") from error
    return _parse(lambda data, path: _decision(data, path, line=number), data, path, place=place)


def _parse(build: Callable[[Any, Path], _T], data: Any, path: Path, *, place: str) -> _T:
    """Build a dataclass from JSON; what is missing or of a wrong type is named with its place."""
    if not isinstance(data, Mapping):
        raise RecordError(f"{place}: holds no mapping")
    version = data.get("schema_version")
    if version != STAGED_SCHEMA_VERSION:
        known = f"this fseed reads version {STAGED_SCHEMA_VERSION}"
        raise RecordError(f"{place}: unknown schema version {version!r}; {known}")
    try:
        return build(data, path)
    except KeyError as error:
        raise RecordError(f"{place}: lacks {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordError(f"{place}: {one_line(error)}") from error


def _plan(data: Mapping[str, Any], path: Path) -> StagedPlan:
    return StagedPlan(
        path=path,
        sweep=_text(data, "sweep"),
        rule=_one_of(data, "rule", RULES),
        rules=_mapping(data, "rules"),
        tasks=tuple(map(str, _list(data, "tasks"))),
        arms=tuple(_arm(entry) for entry in _list(data, "arms")),
        stages=tuple(_stage(entry) for entry in _list(data, "stages")),
        command=tuple(map(str, _list(data, "command"))),
        code_hash=_text(data, "code_hash"),
        created_at=_text(data, "created_at"),
    )


def _arm(entry: Mapping[str, Any]) -> PlanArm:
    beside = entry.get("control_of")
    return PlanArm(
        label=_text(entry, "label"),
        arm_key=_text(entry, "arm_key"),
        control=_text(entry, "control"),
        control_of=None if beside is None else str(beside),
    )


def _stage(entry: Mapping[str, Any]) -> PlanStage:
    seeds, rungs = (
        tuple(_int(number, name) for number in _list(entry, name)) for name in ("seeds", "rungs")
    )
    return PlanStage(_one_of(entry, "name", STAGES), seeds, rungs)


def _decision(data: Mapping[str, Any], path: Path, *, line: int) -> StageDecision:
    numbers = _mapping(data, "numbers")
    told = {
        name: None if numbers[name] is None else _float(numbers[name], name)
        for name in ("difference", "low", "high", "confidence", "p")
    }
    return StageDecision(
        path=path,
        line=line,
        task=_text(data, "task"),
        stage=_one_of(data, "stage", STAGES),
        rung=_int(data["rung"], "rung"),
        arm=_text(data, "arm"),
        arm_key=_text(data, "arm_key"),
        state=_one_of(data, "state", STATES),
        reason=_text(data, "reason"),
        text=_text(data, "text"),
        num_seeds=_int(numbers["num_seeds"], "num_seeds"),
        inputs=tuple(_input(entry) for entry in _list(data, "inputs")),
        rule=_one_of(data, "rule", RULES),
        **told,
    )


def _input(entry: Mapping[str, Any]) -> DecisionInput:
    return DecisionInput(
        seed=_int(entry["seed"], "seed"),
        arm_run_id=_text(entry, "arm_run_id"),
        baseline_run_id=_text(entry, "baseline_run_id"),
        difference=_float(entry["difference"], "difference"),
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    return _typed(data[name], name, str)


def _one_of(data: Mapping[str, Any], name: str, allowed: Sequence[str]) -> str:
    value = _text(data, name)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(allowed)}")
    return value


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    return _typed(data[name], name, list)


def _mapping(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _typed(data[name], name, dict)


def _int(value: Any, name: str) -> int:
    return _typed(value, name, int)


def _float(value: Any, name: str) -> float:
    return float(value) if isinstance(value, int) else _typed(value, name, float)


def _typed(value: Any, name: str, kind: type[_T]) -> _T:
    # a truth value is an integer to isinstance
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r:.40}, not {kind.__name__}")
    return value
