"""What a run writes while it trains, and how a resumed run finds its place again."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.record_schema import CHECKPOINT_FILE
from fseed.records import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RecordError,
    append_metrics,
    last_step,
    read_metrics,
    read_run,
    truncate_metrics,
    write_predictions,
)
from fseed.training.evaluation import Evaluation
from fseed.training.memory_split import SPLIT_KIND, Split, read_split


class RunLog:
    """The growing records of one run directory: training rows, evaluations, predictions.

    Whatever a checkpoint at step c knows is on disk before it: rows behind c are dropped on resume,
    so nothing is counted twice.
    """

    def __init__(self, run_dir: Path) -> None:
        """Start with what the directory holds; call ``rewind`` before the first write."""
        self.run_dir = run_dir
        self.rows: list[dict[str, Any]] = []
        self.predictions: list[dict[str, Any]] = []

    @property
    def checkpoint_path(self) -> Path:
        """Where the last optimiser checkpoint stands."""
        return self.run_dir / CHECKPOINT_FILE

    def rewind(self, *, step: int, scored: Iterable[int] = ()) -> None:
        """Forget everything behind ``step``; a negative step forgets all.

        ``scored``: the steps after which the validation split is to be scored.

        Raises:
            UserError: if the records before the checkpoint are gone.
        """
        truncate_metrics(self.run_dir / METRICS_FILE, after_step=step)
        self.rows = _read_rows(self.run_dir / METRICS_FILE)
        self.predictions = []
        if step < 0:
            return
        try:
            rows = read_run(self.run_dir).predictions().to_pylist()
        except RecordError:
            rows = []
        wanted = {(row["step"], row["split"]) for row in self.evaluation_rows}
        # rows that were written right before a kill, without their evaluation, are scored again
        self.predictions = [row for row in rows if (row["step"], row["split"]) in wanted]
        found = {(row["step"], row["split"]) for row in self.predictions}
        due = {(0, "validation"), *((each, "validation") for each in scored if each <= step)}
        if len(self.training_rows) != step or not due <= wanted or found != wanted:
            raise UserError(
                f"{self.run_dir}: the checkpoint is at step {step}, but the records before it are "
                "incomplete; delete the folder to start this run anew"
            )

    @property
    def training_rows(self) -> list[dict[str, Any]]:
        """Rows of optimiser steps, in order."""
        return [row for row in self.rows if row["kind"] == "train"]

    @property
    def evaluation_rows(self) -> list[dict[str, Any]]:
        """Rows of evaluations, in order."""
        return [row for row in self.rows if row["kind"] == "evaluation"]

    @property
    def splits(self) -> list[Split]:
        """Where memory ran out and fewer samples at a time went on, in order."""
        return [read_split(row) for row in self.rows if row["kind"] == SPLIT_KIND]

    def keep_splits(self, splits: Sequence[Split]) -> None:
        """Append those of ``splits`` that are not on record."""
        known = self.splits
        for split in splits:
            if split not in known:
                self.add_row(split.row())

    def evaluation_at(self, step: int, *, split: str) -> dict[str, Any] | None:
        """Return the evaluation row of ``step`` on ``split`` if it was recorded."""
        found = (r for r in self.evaluation_rows if (r["step"], r["split"]) == (step, split))
        return next(found, None)

    def last_recorded_step(self) -> int | None:
        """Return the last step on disk, None before the first row."""
        return last_step(self.run_dir / METRICS_FILE)

    def total(self, key: str) -> float:
        """Sum ``key`` over all rows that have it."""
        return sum(row[key] for row in self.rows if key in row)

    def add_row(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl."""
        self.rows.append(row)
        append_metrics(self.run_dir / METRICS_FILE, row)

    def add_evaluation(self, evaluation: Evaluation, *, seconds: float) -> None:
        """Write the per-example rows, then the pooled metrics: a row stands for complete files."""
        self.predictions += evaluation.rows
        columns = list(evaluation.rows[0])
        write_predictions(
            self.run_dir / PREDICTIONS_FILE,
            {name: [row[name] for row in self.predictions] for name in columns},
        )
        self.add_row(
            {
                "kind": "evaluation",
                "step": evaluation.step,
                "split": evaluation.split,
                "metrics": evaluation.values,
                "n": {name: metric["n"] for name, metric in evaluation.metrics.items()},
                "seconds": seconds,
            }
        )


def read_splits(run_dir: Path, *, step: int) -> list[Split]:
    """Return the recorded splits that hold for a run continued from ``step``; -1 begins anew."""
    rows = _read_rows(run_dir / METRICS_FILE)
    found = [read_split(row) for row in rows if row.get("kind") == SPLIT_KIND]
    return [split for split in found if split.step <= step]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(path)[0] if path.exists() else []
    except RecordError as error:
        raise UserError(f"{path}: {error}; delete the folder to start this run anew") from error


def due_steps(num_steps: int, *, every: int | None) -> Sequence[int]:
    """Return the steps after which something is due: every ``every`` steps, and the last."""
    return sorted({*range(every, num_steps, every), num_steps} if every else {num_steps})
