"""The records as a rank knows them that does not write them."""

from collections.abc import Iterable, Sequence
from typing import Any

from fseed.training.evaluation import Evaluation
from fseed.training.memory_split import Split
from fseed.training.run_log import RunLog


class FollowingLog(RunLog):
    """Keeps in memory what rank 0 writes, so that every rank takes the same decisions."""

    def follow(self, rows: list[dict[str, Any]]) -> None:
        """Begin with the rows that rank 0 has kept."""
        self.rows = list(rows)

    def rewind(self, *, step: int, scored: Iterable[int] = ()) -> None:
        """Leave the files to rank 0."""

    def keep_splits(self, splits: Sequence[Split]) -> None:
        """Leave the files to rank 0."""

    def add_row(self, row: dict[str, Any]) -> None:
        """Remember a row."""
        self.rows.append(row)

    def add_evaluation(self, evaluation: Evaluation, *, seconds: float) -> None:
        """Remember that a split was scored."""
        where = {"step": evaluation.step, "split": evaluation.split}
        self.add_row({"kind": "evaluation", **where, "metrics": evaluation.values})
