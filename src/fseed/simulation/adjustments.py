"""Holm and Benjamini-Hochberg on arms that share a baseline: false rejections and power."""

import numpy as np

from fseed.results.multiplicity import benjamini_hochberg, holm
from fseed.results.statistics import paired_t_p_value
from fseed.simulation.pipeline import SIGNIFICANCE, Flags
from fseed.simulation.rates import count
from fseed.simulation.scores import WORLDS, Array, World, draw_differences
from fseed.simulation.tables import Cell, Table, rate_cells

NUM_ARMS = 10
NUM_SEEDS = 5
EFFECT = 0.06
ADJUSTMENTS = {"none": np.asarray, "Holm": holm, "Benjamini-Hochberg": benjamini_hochberg}
TITLE = "Holm and Benjamini-Hochberg"
TEXT = f"""\
{NUM_ARMS} arms against one shared baseline, {NUM_SEEDS} seeds, some of them with a gain of
{100 * EFFECT:g} pp; rejected below 5 %. Any false: families with a false rejection, which Holm
keeps to 5 %. False share: mean share of false ones among the rejections of a family (none
counts as 0), which Benjamini-Hochberg keeps to 5 %. Found: planted arms that are rejected. The
row `none` shows what no adjustment would do and promises nothing."""


def study_adjustments(*, num_families: int, generator: np.random.Generator) -> Table:
    """Return family-wise error, false discovery rate and power of every adjustment."""
    rows: list[dict[str, Cell]] = []
    for world in WORLDS:
        for num_planted in (0, 3, 7):
            p_values = draw_p_values(
                world, num_planted, num_families=num_families, generator=generator
            )
            for name in ADJUSTMENTS:
                labels = {"world": world.name, "planted": num_planted, "adjustment": name}
                rows.append(labels | _cells(p_values, num_planted, name))
    return Table("adjustments", TITLE, TEXT, rows)


def draw_p_values(
    world: World, num_planted: int, *, num_families: int, generator: np.random.Generator
) -> Array:
    """Return p values [F, A] of families whose first ``num_planted`` arms have the gain."""
    effects = np.where(np.arange(NUM_ARMS) < num_planted, EFFECT, 0.0)
    values = draw_differences(
        world, effects, num_families=num_families, num_seeds=NUM_SEEDS, generator=generator
    )
    return np.array([[paired_t_p_value(arm) for arm in family] for family in values])


def reject(p_values: Array, name: str) -> Flags:
    """Return which of the p values [F, A] are below the level after the adjustment."""
    adjust = ADJUSTMENTS[name]
    return np.array([adjust(family) for family in p_values]) < SIGNIFICANCE


def false_share(rejected: Flags, num_planted: int) -> float:
    """Return the mean share of false ones among the rejections [F, A] of a family."""
    false = rejected[:, num_planted:].sum(axis=1)
    return float((false / np.maximum(rejected.sum(axis=1), 1)).mean())


def _cells(p_values: Array, num_planted: int, name: str) -> dict[str, Cell]:
    rejected = reject(p_values, name)
    any_false = count(rejected[:, num_planted:].any(axis=1))
    share = false_share(rejected, num_planted)
    verdict = "no promise"
    if name == "Holm":
        verdict = any_false.against_most(SIGNIFICANCE)
    elif name == "Benjamini-Hochberg":
        # a share of rejections is a mean of numbers in [0, 1], its error at most a binomial one
        margin = 2.6 * np.sqrt(SIGNIFICANCE * (1 - SIGNIFICANCE) / len(p_values))
        verdict = "above nominal" if share > SIGNIFICANCE + margin else "kept"
    found = 100 * float(rejected[:, :num_planted].mean()) if num_planted else None
    return rate_cells(any_false, name="any false %") | {
        "false share %": 100 * share,
        "found %": found,
        "verdict": verdict,
    }
