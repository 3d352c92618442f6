"""Staged sweeps in milliseconds: a trainer that writes the score it is told, and a quiet view."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from fseed.planned_run import PlannedRun, RunOutcome
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
)
from fseed.results.staged_files import read_decisions
from fseed.sweep.execute import execute_run
from fseed.sweep.staged.flow import Progress
from fseed.sweep.staged.probe_file import Probe
from fseed.sweep.staged.runner import Tools, run_staged
from fseed.sweep.staged.setup import StagedSweep, build_sweep
from tests.configs import compose_below

Gain = Callable[[PlannedRun], float]
ARMS = ("scalar_l10", "raw_l10")
FIVE_SEEDS = tuple(f"sweep.{stage}_seeds=5" for stage in ("quick", "medium", "confirm"))
_VALUES = {"string": "x", "int32": 1, "double": 1.0, "bool": True, "list<double>": [1.0]}


def wave(seed: int) -> float:
    """Return a spread over seeds that no arm shares with another by accident."""
    return 0.004 * ((seed * 7) % 5 - 2)


def helps_by(**gains: float) -> Gain:
    """Return scores of 0.5 for baselines and controls, more for the named arms."""

    def gain(run: PlannedRun) -> float:
        seed = run.config.seed
        return 0.5 if run.arm not in gains else 0.5 + gains[run.arm] + wave(seed)

    return gain


GOOD_AND_BAD = helps_by(scalar_l10=0.05, raw_l10=-0.05)


def begin(run: PlannedRun) -> None:
    """Write what a run writes first, without the cost of the real writers."""
    run.run_dir.mkdir(parents=True, exist_ok=True)
    version = {"schema_version": SCHEMA_VERSION}
    ids = {"run_id": run.run_id, "pair_key": run.pair_key, "arm_key": run.arm_key}
    config = json.dumps(asdict(run.config), default=lambda option: option.value)
    (run.run_dir / CONFIG_FILE).write_text(config)
    (run.run_dir / CHOICES_FILE).write_text(json.dumps(version | {"arm": run.arm}))
    (run.run_dir / PROVENANCE_FILE).write_text(json.dumps(version | ids))


def crash(run: PlannedRun) -> RunOutcome:
    begin(run)
    failure = {"run_id": run.run_id, "class": "oom", "message": "stopped"}
    text = json.dumps({"schema_version": SCHEMA_VERSION} | failure)
    (run.run_dir / FAILURE_FILE).write_text(text)
    return RunOutcome("failed", "out of memory", 1)


def finish_with(run: PlannedRun, score: float) -> None:
    begin(run)
    (run.run_dir / FAILURE_FILE).unlink(missing_ok=True)
    split = "test" if run.config.budget.test else "validation"
    values = {name: _VALUES[kind] for name, kind in PREDICTION_TYPES.items()}
    row = values | {"split": split, "step": 1, "score": score, "weight": 1.0}
    write_predictions(run.run_dir / PREDICTIONS_FILE, {key: [row[key]] for key in row})
    metrics = {"token_accuracy": {"value": score, "n": 1}}
    result = {
        **{"schema_version": SCHEMA_VERSION, "status": "finished", "run_id": run.run_id},
        **{"pair_key": run.pair_key, "arm_key": run.arm_key, "steps": 1, "wall_seconds": 3.0},
        **{"primary_metric": "token_accuracy"},
        **{"evaluations": [{"step": 1, "split": split, "metrics": metrics}]},
    }
    write_json_atomic(run.run_dir / RESULT_FILE, result)


class ScoredTraining:
    """Finish every run with the score of ``gain``, or do what ``script`` says for it."""

    def __init__(
        self, gain: Gain, script: dict[str, Callable[[PlannedRun], RunOutcome]] | None = None
    ) -> None:
        self.gain, self.script = gain, script or {}
        self.started: list[str] = []

    def __call__(self, run: PlannedRun, position: str) -> RunOutcome:
        config = run.config
        name = f"{config.task.name} {config.sweep.stage} {run.arm} s{config.seed}"
        self.started.append(name)
        if name in self.script:
            return self.script[name](run)
        finish_with(run, self.gain(run))
        return RunOutcome("finished", str(run.run_dir), 0)


class QuietView:
    """Remember what a person would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progresses: Sequence[Progress] = ()
        self.is_closed = False

    def update(self, progresses: Sequence[Progress], running: Sequence[PlannedRun]) -> None:
        self.progresses = progresses

    def say(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """One command on one folder, as often as a test starts it."""

    def __init__(
        self, root: Path, *words: str, tasks: Sequence[str] = ("hotpot",), controls: bool = False
    ) -> None:
        self.root, self.tasks = root, tasks
        keys = {word.split("=")[0] for word in words}
        seeds = (word for word in FIVE_SEEDS if word.split("=")[0] not in keys)
        self.words = (*seeds, *words) if controls else (*seeds, "sweep.controls=false", *words)
        self.arms: Sequence[str] = ARMS
        self.view = QuietView()
        self.shown: list[Path] = []
        self.probed: list[str] = []
        self.micro_batch_size = 10**6
        self.batch_size: int | None = 1

    @property
    def folder(self) -> Path:
        return self.root / "default"

    def build(self) -> StagedSweep:
        seeds = [word for word in self.words if word.startswith("seed=")]
        words = [word for word in self.words if word not in seeds] + [f"output.root={self.root}"]
        points = [
            compose_below([f"task={task}", f"fs={arm}", *words])
            for task in self.tasks
            for arm in self.arms
        ]
        first = compose_below([f"task={self.tasks[0]}", *words, *seeds]).config
        return build_sweep(points, first=first, compose=compose_below, command=["test"])

    def run(self, train: ScoredTraining) -> int:
        self.view = QuietView()

        def launch(runs: Sequence[PlannedRun], positions: Sequence[str]) -> list[RunOutcome]:
            pairs = zip(runs, positions, strict=True)
            return [execute_run(run, position=told, train=train) for run, told in pairs]

        tools = Tools(launch, self.measure, self.shown.append, self.view, self.batch_size)
        return run_staged(self.build(), tools)

    def measure(self, run: PlannedRun) -> Probe:
        self.probed.append(f"{run.config.task.name} {run.arm}")
        return Probe(run.arm, self.micro_batch_size, None, 0.5, 1000.0)


def states(bench: Bench) -> dict[str, str]:
    """Return the state of every arm of the first task as the table shows it."""
    rows = bench.view.progresses[0].rows
    return {arm: f"{row.stage} {row.state}" for arm, row in rows.items()}


def stage_counts(train: ScoredTraining) -> dict[str, int]:
    """Return how many runs of every stage were started."""
    return dict(Counter(name.split()[1] for name in train.started))


def decided(bench: Bench) -> list[tuple[str, str, int, str, str, str]]:
    """Return task, stage, rung, arm, state and reason of every decision in the file."""
    found = read_decisions(bench.folder)
    return [(d.task, d.stage, d.rung, d.arm, d.state, d.reason) for d in found]
