"""Simulated scores of runs: noise over seeds, over examples and over units, and arm effects.

Axes: F families (the arms of one task of one sweep), A arms, S seeds, N examples, U units of an
example. The chance to get a unit of an example right is its difficulty, plus what the seed does
to every arm, plus what chance does to the run, plus the arm's effect: all in fractions of score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NOISES = ("normal", "skewed", "heteroscedastic", "collapsing")
DIFFICULTIES = np.array([0.2, 0.3, 0.5, 0.7, 0.8])  # chances to be right; examples spread evenly
_LOG_SCALE = 0.8  # deviation of the log of a seed's scale, heteroscedastic
_COLLAPSE_RATE = 0.1


@dataclass(frozen=True)
class World:
    """What a task is like: the noise of arms and baseline over seeds, and its examples.

    ``seed_deviation`` and ``shared_deviation`` are standard deviations of a run's score over
    seeds: its own, and that which all arms of a seed share, as they see the same batches.
    """

    name: str
    arm_noise: str = "normal"
    baseline_noise: str = "normal"
    seed_deviation: float = 0.006
    shared_deviation: float = 0.01
    num_examples: int = 400
    max_units: int = 4

    @property
    def is_aa(self) -> bool:
        """Whether an arm without effect is drawn exactly as its baseline is."""
        return self.arm_noise == self.baseline_noise


WORLDS = (
    World("normal"),
    World("skewed", "skewed", "skewed"),
    World("heteroscedastic", "heteroscedastic", "heteroscedastic", seed_deviation=0.015),
    World("collapsing runs", "collapsing", "collapsing", seed_deviation=0.03),
    World("20 examples of one unit", num_examples=20, max_units=1),
    World("skewed arms, normal baseline", "skewed", seed_deviation=0.03),
)


def draw_differences(
    world: World,
    effects: ArrayLike,
    *,
    num_families: int,
    num_seeds: int,
    generator: np.random.Generator,
) -> Array:
    """Return paired differences [F, A, S] of score ratios, arm minus baseline.

    ``effects`` [A] are the true differences. Every family has its own examples.
    """
    levels = np.concatenate([[0.0], np.asarray(effects, dtype=np.float64)])[None, :, None]
    shape = (num_families, levels.size, num_seeds)
    levels = levels + draw_run_noise(world, shape, generator=generator)
    units = _draw_units(world, num_families=num_families, generator=generator)[:, None, None, :]
    chances = np.clip(levels[..., None] + DIFFICULTIES, 0.0, 1.0)
    # units of equal difficulty are independent: their sum over examples is one binomial draw
    scores = generator.binomial(units, chances).sum(axis=-1) / units.sum(axis=-1)
    return scores[:, 1:] - scores[:, :1]


def draw_run_noise(
    world: World, shape: tuple[int, int, int], *, generator: np.random.Generator
) -> Array:
    """Return what seed and chance do to the scores of runs [F, 1 + A, S], the baseline first."""
    num_families, num_runs, num_seeds = shape
    shared = generator.normal(0, world.shared_deviation, (num_families, 1, num_seeds))
    baseline_shape, arms_shape = (
        (num_families, 1, num_seeds),
        (num_families, num_runs - 1, num_seeds),
    )
    scale = _draw_scale(baseline_shape, generator=generator)
    baseline = draw_noise(world.baseline_noise, baseline_shape, scale=scale, generator=generator)
    arms = draw_noise(world.arm_noise, arms_shape, scale=scale, generator=generator)
    return shared + world.seed_deviation * np.concatenate([baseline, arms], axis=1)


def draw_noise(
    kind: str,
    shape: tuple[int, int, int],
    *,
    scale: Array,
    generator: np.random.Generator,
) -> Array:
    """Return noise of mean 0 and variance 1; ``scale`` [F, 1, S] is used by heteroscedastic."""
    if kind == "normal":
        return generator.standard_normal(shape)
    if kind == "skewed":  # a long tail of bad runs
        return 1 - generator.standard_exponential(shape)
    if kind == "heteroscedastic":  # some seeds are calm, some wild
        return generator.standard_normal(shape) * scale
    if kind == "collapsing":  # one run in ten fails to learn
        spread = np.sqrt(_COLLAPSE_RATE * (1 - _COLLAPSE_RATE))
        return (_COLLAPSE_RATE - (generator.random(shape) < _COLLAPSE_RATE)) / spread
    raise ValueError(f"noise {kind}: one of {', '.join(NOISES)}")


def _draw_scale(shape: tuple[int, int, int], *, generator: np.random.Generator) -> Array:
    """Return lognormal scales whose squares have mean 1."""
    return np.exp(_LOG_SCALE * generator.standard_normal(shape) - _LOG_SCALE**2)


def _draw_units(
    world: World, *, num_families: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the number of units per difficulty [F, D]; an example has 1 .. max_units of them."""
    num_kinds = DIFFICULTIES.size * world.max_units
    kinds = generator.multinomial(
        world.num_examples, np.full(num_kinds, 1 / num_kinds), size=num_families
    )
    sizes = np.arange(1, world.max_units + 1)
    return kinds.reshape(num_families, DIFFICULTIES.size, world.max_units) @ sizes
