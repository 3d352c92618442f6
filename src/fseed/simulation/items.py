"""Simulated scores example by example, where an arm may help one example and hurt another.

Axes: R pairs of an arm and its baseline, S seeds, N examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fseed.simulation.scores import DIFFICULTIES, Array, World, draw_run_noise


@dataclass(frozen=True)
class ItemDraw:
    """Differences in correct units, and three truths that an interval may be held against.

    ``differences`` [R, S, N], ``units`` [N]. ``population``: the effect over all seeds and all
    examples there could be. ``examples`` [R]: over all seeds, on these examples. ``runs`` [R]: of
    these very runs, over all examples.
    """

    differences: Array
    units: NDArray[np.int64]
    population: float
    examples: Array
    runs: Array


def draw_items(
    world: World,
    effect: float,
    *,
    item_effect: float,
    num_pairs: int,
    num_seeds: int,
    generator: np.random.Generator,
) -> ItemDraw:
    """Draw pairs whose arms gain ``effect`` on average, plus or minus ``item_effect`` per example.

    All pairs share the units of their examples; difficulties and effects are their own.
    """
    units = generator.integers(1, world.max_units + 1, world.num_examples)
    shape = (num_pairs, world.num_examples)
    difficulty = generator.choice(DIFFICULTIES, shape)
    effects = effect + item_effect * generator.choice([-1.0, 1.0], shape)
    noise = draw_run_noise(world, (num_pairs, 2, num_seeds), generator=generator)
    baseline_chances = difficulty[:, None, :] + noise[:, 0, :, None]
    arm_chances = (difficulty + effects)[:, None, :] + noise[:, 1, :, None]
    arm, baseline = (
        generator.binomial(units, np.clip(chances, 0.0, 1.0))
        for chances in (arm_chances, baseline_chances)
    )
    return ItemDraw(
        differences=(arm - baseline).astype(np.float64),
        units=units,
        population=effect,
        examples=effects @ units / units.sum(),
        runs=effect + (noise[:, 1] - noise[:, 0]).mean(axis=1),
    )
