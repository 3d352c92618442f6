"""Stand-ins for the trainer: they write the records of a run in a millisecond."""

from collections.abc import Callable
from pathlib import Path

import yaml

from fseed.planned_run import PlannedRun, RunOutcome
from fseed.provenance import build_provenance
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    PREDICTION_TYPES,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    write_json_atomic,
    write_predictions,
    write_text_atomic,
)


def start(run: PlannedRun) -> None:
    folder = run.run_dir
    write_text_atomic(folder / CONFIG_FILE, yaml.safe_dump(run.resolved_config()))
    choices = {"schema_version": SCHEMA_VERSION, "arm": run.arm, "choices": run.choices}
    write_json_atomic(folder / CHOICES_FILE, choices)
    write_json_atomic(folder / PROVENANCE_FILE, build_provenance(run))


def finish(run: PlannedRun) -> None:
    start(run)
    (run.run_dir / FAILURE_FILE).unlink(missing_ok=True)
    result = {
        **{"schema_version": SCHEMA_VERSION, "status": "finished", "run_id": run.run_id},
        **{"pair_key": run.pair_key, "arm_key": run.arm_key, "steps": 1},
        **{"primary_metric": "token_accuracy", "evaluations": []},
    }
    columns = {name: [] for name in PREDICTION_TYPES}
    write_predictions(run.run_dir / PREDICTIONS_FILE, columns)
    write_json_atomic(run.run_dir / RESULT_FILE, result)


def fail(run: PlannedRun, *, kind: str = "oom") -> None:
    start(run)
    failure = {
        **{"schema_version": SCHEMA_VERSION, "run_id": run.run_id, "pair_key": run.pair_key},
        **{"class": kind, "message": "stopped", "traceback": "", "last_step": 0},
    }
    write_json_atomic(run.run_dir / FAILURE_FILE, failure)


class FakeTraining:
    """A trainer that finishes every run, or does what ``script`` says for an arm and seed."""

    def __init__(self, script: dict[str, Callable[[PlannedRun], RunOutcome]] | None = None):
        self.script = script or {}
        self.started: list[str] = []
        self.positions: list[str] = []

    def __call__(self, run: PlannedRun, position: str) -> RunOutcome:
        name = f"{run.arm} s{run.config.seed}"
        self.started.append(name)
        self.positions.append(position)
        if name in self.script:
            return self.script[name](run)
        finish(run)
        return RunOutcome("finished", str(run.run_dir), 0)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
