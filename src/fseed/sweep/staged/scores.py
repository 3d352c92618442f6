"""What the runs of a sweep have shown so far, read from their records, each record once."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fseed.planned_run import PlannedRun
from fseed.records import read_run
from fseed.results.runs import load_run

FINISHED, FAILED, MISSING = "finished", "failed", "missing"


@dataclass(frozen=True)
class Score:
    """One run: ``value`` of the primary metric when finished, ``reason`` when failed."""

    state: str  # finished | failed | missing
    value: float | None = None
    reason: str | None = None


@dataclass
class Scores:
    """The scores of runs; what this process has attempted is not asked for again.

    A run that failed before this process is missing, so that it is tried again.
    """

    _known: dict[str, Score] = field(default_factory=dict)
    _attempted: set[str] = field(default_factory=set)

    def read(self, run: PlannedRun) -> Score:
        """Return what the records of a run say."""
        if run.run_id not in self._known:
            self._known[run.run_id] = read_score(run)
        return self._known[run.run_id]

    def is_settled(self, run: PlannedRun, *, is_decided: bool) -> bool:
        """Tell whether there is nothing left to start for a run.

        A failed run is, once it was attempted here or the rung that it belongs to is decided.
        """
        score = self.read(run)
        if score.state == FAILED:
            return is_decided or run.run_id in self._attempted
        return score.state == FINISHED or run.run_id in self._attempted

    def attempted(self, runs: Iterable[PlannedRun]) -> None:
        """Note that these runs were started, and read them anew."""
        for run in runs:
            self._attempted.add(run.run_id)
            self._known.pop(run.run_id, None)


def read_score(run: PlannedRun) -> Score:
    """Read the record of a run: its last score, or why there is none."""
    if not run.run_dir.is_dir():
        return Score(MISSING, reason="not started")
    found = load_run(read_run(run.run_dir))
    if found.status == "finished" and found.run_id != run.run_id:
        return Score(FAILED, reason=f"{run.run_dir} holds another run ({found.run_id})")
    if found.status == "finished":
        return Score(FINISHED, value=found.last[str(found.primary_metric)])
    if found.status in ("failed", "invalid"):
        return Score(FAILED, reason=found.reason)
    # unfinished, or a record that a kill has torn: the run goes on from its checkpoint
    return Score(MISSING, reason=found.reason)
