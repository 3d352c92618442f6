"""Every arm of the record files beside the baseline that it was compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from fseed.results.legacy.model import LegacyRun

Setting = tuple[str, str | None, int | None, int | None]


@dataclass(frozen=True)
class Delta:
    """An arm and its baseline; ``stage`` is that of the arm, ``baseline.stage`` may differ."""

    run: LegacyRun
    baseline: LegacyRun

    @property
    def difference(self) -> float | None:
        """Return the difference of the reported scores, a fraction."""
        arm, base = self.run.accuracy, self.baseline.accuracy
        return arm - base if arm is not None and base is not None else None

    @property
    def loss_difference(self) -> float | None:
        """Return the difference of the best losses."""
        arm, base = self.run.loss, self.baseline.loss
        return arm - base if arm is not None and base is not None else None

    @property
    def is_same_stage(self) -> bool:
        """Tell whether both sides had the budget of one stage."""
        return self.run.stage == self.baseline.stage


def setting_of(run: LegacyRun) -> Setting:
    """Return what an arm shared with the baseline of its search."""
    return run.study, run.task, run.seed, run.batch_size


def pair_up(runs: Sequence[LegacyRun]) -> list[Delta]:
    """Pair each finished arm with the finished baseline of its stage, else of the quick stage.

    The second is what the earlier work did for its medium stage, which had no baseline.
    """
    baselines = {
        (setting_of(run), run.stage): run
        for run in reversed(runs)
        if run.is_baseline and run.status == "finished" and run.accuracy is not None
    }
    deltas: list[Delta] = []
    for run in runs:
        if run.is_baseline or run.status != "finished" or run.accuracy is None:
            continue
        setting = setting_of(run)
        base = baselines.get((setting, run.stage)) or baselines.get((setting, "quick"))
        if base is not None:
            deltas.append(Delta(run, base))
    return deltas


def recorded(runs: Sequence[LegacyRun]) -> list[LegacyRun]:
    """Return the runs of record files: all digits, one setting a line."""
    return [run for run in runs if not run.is_rounded]
