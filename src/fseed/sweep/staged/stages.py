"""The stages of a sweep, their disjoint seeds and the rule that chooses between arms."""

from dataclasses import dataclass

from fseed.config.rules import MAX_SEED
from fseed.config.schema import StageRule, SweepConfig
from fseed.errors import UserError
from fseed.sweep.decisions import Rules, default_rungs

QUICK, MEDIUM, CONFIRM = "quick", "medium", "confirm"
# fewer seeds make a t interval too wide to decide anything
MIN_SEEDS = {QUICK: 3, MEDIUM: 3, CONFIRM: 5}
THRESHOLD_NOTE = (
    "note: sweep.rule=threshold is the earlier protocol: a mean difference on few seeds, without "
    "an interval; it passes about half of all arms that do nothing, and shows no effect by itself"
)


@dataclass(frozen=True)
class Stage:
    """One stage: its own seeds, and the numbers of them after which it decides."""

    name: str
    seeds: tuple[int, ...]
    rungs: tuple[int, ...]

    @property
    def is_last(self) -> bool:
        """Whether this is the stage that drops no arm and touches the test split."""
        return self.name == CONFIRM


def build_stages(sweep: SweepConfig, *, first_seed: int) -> tuple[Stage, ...]:
    """Return quick, medium and confirm on consecutive seeds from ``first_seed``, none used twice.

    Raises:
        UserError: for a stage with too few seeds, or seeds that no generator takes.
    """
    stages = []
    start = first_seed
    for name in (QUICK, MEDIUM, CONFIRM):
        num_seeds = getattr(sweep, f"{name}_seeds")
        is_threshold = sweep.rule is StageRule.threshold and name != CONFIRM
        least = 1 if is_threshold else MIN_SEEDS[name]
        if num_seeds < least:
            raise UserError(
                f"sweep.{name}_seeds={num_seeds}: must be {least} or more with "
                f"sweep.rule={sweep.rule.value}"
            )
        one_look = is_threshold or name == CONFIRM
        rungs = (num_seeds,) if one_look else default_rungs(num_seeds)
        stages.append(Stage(name, tuple(range(start, start + num_seeds)), rungs))
        start += num_seeds
    if start - 1 > MAX_SEED:
        raise UserError(f"seed={first_seed}: the stages would need seeds above {MAX_SEED}")
    return tuple(stages)


def build_rules(sweep: SweepConfig) -> Rules:
    """Return the numbers that decide; UserError for one out of its range."""
    try:
        return Rules(
            rule=sweep.rule.value,
            wanted_gain=sweep.wanted_gain,
            significance=sweep.significance,
            keep_fraction=sweep.keep_fraction,
            quick_threshold=sweep.quick_threshold,
            medium_threshold=sweep.medium_threshold,
        )
    except ValueError as error:
        raise UserError(f"sweep: {error}") from error
