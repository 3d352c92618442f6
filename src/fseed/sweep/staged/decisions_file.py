"""decisions.jsonl: every decision of a sweep, appended once and never changed.

A process that resumes recomputes all of them from the runs; they must agree with the file.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.records import RecordError
from fseed.results.staged_files import (
    DECISIONS_FILE,
    STAGED_SCHEMA_VERSION,
    DecisionInput,
    StageDecision,
    read_decisions,
)
from fseed.sweep.decisions import Decision

# a library of another version may round the last digits of an interval differently
TOLERANCE = 1e-9
NUMBERS = ("difference", "low", "high", "confidence", "p")

Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class TakenDecision:
    """A decision with its place in the sweep and the pairs it was taken from."""

    task: str
    stage: str
    rung: int
    arm_key: str
    decision: Decision
    inputs: tuple[DecisionInput, ...]
    rule: str

    @property
    def key(self) -> Key:
        """Task, stage, rung and arm: decided once each."""
        return self.task, self.stage, self.rung, self.decision.arm

    def as_row(self) -> dict[str, Any]:
        """Return the line of decisions.jsonl as plain values; fractions."""
        told = self.decision
        numbers = {name: getattr(told, name) for name in (*NUMBERS, "num_seeds")}
        return {
            **{"schema_version": STAGED_SCHEMA_VERSION, "task": self.task, "stage": self.stage},
            **{"rung": self.rung, "arm": told.arm, "arm_key": self.arm_key},
            **{"state": told.state, "reason": told.reason, "text": told.text},
            **{"numbers": numbers, "inputs": [vars(one) for one in self.inputs]},
            **{"rule": self.rule},
        }


@dataclass
class DecisionLog:
    """The decisions on disk of one sweep, as far as they are known to this process."""

    folder: Path
    _lines: dict[Key, StageDecision | None] = field(default_factory=dict)
    _confirmed: set[Key] = field(default_factory=set)

    def load(self) -> None:
        """Read what an earlier process decided.

        Raises:
            UserError: for a line that is no decision, or decides twice.
        """
        try:
            recorded = read_decisions(self.folder)
        except RecordError as error:
            raise UserError(
                f"{error}\nthis sweep cannot be resumed: give another sweep.name"
            ) from error
        for line in recorded:
            key = (line.task, line.stage, line.rung, line.arm)
            if key in self._lines:
                raise UserError(f"{_place(line)}: decides {_name(key)} a second time")
            self._lines[key] = line

    def is_decided(self, task: str, stage: str, rung: int) -> bool:
        """Tell whether any decision of a rung is on disk."""
        return any(key[:3] == (task, stage, rung) for key in self._lines)

    def settle(self, taken: Sequence[TakenDecision]) -> list[TakenDecision]:
        """Check decisions against the file, append the new ones, and return these.

        Raises:
            UserError: naming the line that says something else.
        """
        new = []
        for one in taken:
            line = self._lines.get(one.key)
            if line is not None and one.key not in self._confirmed:
                _check_agreement(line, one)
            elif line is None and one.key not in self._lines:
                new.append(one)
            self._confirmed.add(one.key)
        if new:
            append_lines(self.folder / DECISIONS_FILE, [one.as_row() for one in new])
            self._lines |= {one.key: None for one in new}
        return new

    def check_complete(self) -> None:
        """Raise UserError for a line on disk that the runs lead to no more."""
        for key, line in self._lines.items():
            if line is not None and key not in self._confirmed:
                raise UserError(
                    f"{_place(line)}: decides {_name(key)}, which the runs do not lead to"
                )


def append_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append ``rows`` as JSON lines and sync them; a line that a kill has torn is cut off first."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "rb+") as file:
        whole = file.read()
        file.seek(whole.rfind(b"\n") + 1)
        file.truncate()
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _check_agreement(line: StageDecision, taken: TakenDecision) -> None:
    told = taken.decision
    pairs: list[tuple[str, Any, Any]] = [
        ("state", line.state, told.state),
        ("reason", line.reason, told.reason),
        ("rule", line.rule, taken.rule),
        ("arm_key", line.arm_key, taken.arm_key),
        ("num_seeds", line.num_seeds, told.num_seeds),
        ("run ids", _ids(line.inputs), _ids(taken.inputs)),
        *((name, getattr(line, name), getattr(told, name)) for name in NUMBERS),
    ]
    for name, recorded, found in pairs:
        if not _agree(recorded, found):
            raise UserError(
                f"{_place(line)}: {_name(taken.key)} has {name} {recorded}, "
                f"the runs say {found}; a record or the file was changed"
            )


def _agree(recorded: Any, found: Any) -> bool:
    if isinstance(recorded, float) and isinstance(found, float | int):
        return math.isclose(recorded, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return recorded == found


def _ids(inputs: Sequence[DecisionInput]) -> list[tuple[int, str, str]]:
    return [(one.seed, one.arm_run_id, one.baseline_run_id) for one in inputs]


def _place(line: StageDecision) -> str:
    return f"{line.path} line {line.line}"


def _name(key: Key) -> str:
    task, stage, rung, arm = key
    return f"{task} {stage} rung {rung} of {arm}"
