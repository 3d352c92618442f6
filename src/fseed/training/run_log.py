"""What a run writes while it trains, and how a resumed run finds its place again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.records import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    RecordError,
    append_metrics,
    read_metrics,
    read_run,
    truncate_metrics,
    write_predictions,
)
from fseed.training.evaluation import Evaluation

CHECKPOINT_FILE = "checkpoint.ckpt"


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

    def rewind(self, *, step: int) -> None:
        """Forget everything behind ``step``; a negative step forgets all.

        Raises:
            UserError: if the records before the checkpoint are gone.
        """
        metrics_path = self.run_dir / METRICS_FILE
        truncate_metrics(metrics_path, after_step=step)
        self.rows = read_metrics(metrics_path)[0] if metrics_path.exists() else []
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
        scored = {(row["step"], row["split"]) for row in self.predictions}
        is_whole = len(self.training_rows) == step and (0, "validation") in wanted
        if not is_whole or scored != wanted:
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

    def evaluation_at(self, step: int, *, split: str) -> dict[str, Any] | None:
        """Return the evaluation row of ``step`` on ``split`` if it was recorded."""
        found = (r for r in self.evaluation_rows if (r["step"], r["split"]) == (step, split))
        return next(found, None)

    def last_recorded_step(self) -> int | None:
        """Return the last step on disk, None before the first row."""
        path = self.run_dir / METRICS_FILE
        rows = read_metrics(path)[0] if path.exists() else []
        return rows[-1]["step"] if rows else None

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


def due_steps(num_steps: int, *, every: int | None) -> Sequence[int]:
    """Return the steps after which something is due: every ``every`` steps, and the last."""
    return sorted({*range(every, num_steps, every), num_steps} if every else {num_steps})
