"""Does an interval hold the true difference as often as it says?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fseed.results.equivalence import equivalence_p_value
from fseed.results.statistics import (
    Interval,
    crossed_bootstrap,
    item_interval,
    paired_t_interval,
)
from fseed.simulation.items import ItemDraw, draw_items
from fseed.simulation.pipeline import SIGNIFICANCE
from fseed.simulation.rates import count
from fseed.simulation.scores import WORLDS, Array, World, draw_differences
from fseed.simulation.tables import Cell, Table, rate_cells

EFFECT = 0.02
MARGIN = 0.01
SEEDS = range(3, 11)
ITEM_WORLD = World("normal", seed_deviation=0.01, num_examples=100)
_ITEM_EFFECTS = (0.0, 0.15)
_NOT_MEANT = {
    ("over examples", "population"),
    ("t", "population"),
    ("crossed bootstrap", "examples"),
}
_BATCH = 100  # pairs that share units and bootstrap draws
_NUM_DRAWS = 1000

SEEDS_TEXT = f"""\
The paired t interval over seeds, 95 %, around a true difference of {100 * EFFECT:g} pp on the
examples at hand. With unequal shapes of noise (skewed arms beside a normal baseline) the
differences are skewed, which a t interval does not know."""
ITEMS_TEXT = f"""\
Intervals at 95 % on {ITEM_WORLD.num_examples} examples of 1 to {ITEM_WORLD.max_units} units, true
difference {100 * EFFECT:g} pp. Example effect: the arm gains that much more on half of the
examples and less on the other half. The truth is that over all seeds and all examples
(population), over all seeds on these examples, or of these very runs over all examples. The t
interval speaks of these examples; the interval over examples of these very runs: with one seed it
misses the truth over seeds, which is why it is printed as `seed variance not measured`. The
crossed bootstrap ({_NUM_DRAWS:,} draws here) speaks of the population and is meant to be wide."""
EQUIVALENCE_TEXT = f"""\
Two one-sided tests at 5 %, margin {100 * MARGIN:g} pp. At a true difference of just the margin,
`equivalent` is false and may come up in 5 % of cases; at a true difference of zero it is right,
and its rate is the power. The worlds with a deviation over seeds of 0.4 pp and 4,000
examples, so that a margin of 1 pp is within reach."""


def study_seed_intervals(*, num_repeats: int, generator: np.random.Generator) -> Table:
    """Return the coverage of the t interval for 3 to 10 seeds in every world."""
    rows: list[dict[str, Cell]] = []
    for world in WORLDS:
        for num_seeds in SEEDS:
            values = _draw(
                world, EFFECT, num_repeats=num_repeats, num_seeds=num_seeds, generator=generator
            )
            found = [paired_t_interval(row) for row in values]
            labels = {"world": world.name, "seeds": num_seeds}
            rows.append(labels | _coverage_cells(found, np.full(num_repeats, EFFECT)))
    return Table("coverage_seeds", "Coverage of the t interval over seeds", SEEDS_TEXT, rows)


def study_item_intervals(*, num_repeats: int, generator: np.random.Generator) -> Table:
    """Return the coverage of every interval where examples vary too."""
    rows: list[dict[str, Cell]] = []
    for item_effect in _ITEM_EFFECTS:
        for num_seeds in (1, 3, 5, 10):
            num_batches = max(1, num_repeats // _BATCH)
            draws = [
                draw_items(
                    ITEM_WORLD,
                    EFFECT,
                    item_effect=item_effect,
                    num_pairs=_BATCH,
                    num_seeds=num_seeds,
                    generator=generator,
                )
                for _ in range(num_batches)
            ]
            labels = {"seeds": num_seeds, "example effect pp": 100 * item_effect}
            rows += [labels | cells for cells in _item_rows(draws, generator=generator)]
    return Table("coverage_items", "Coverage over seeds and examples", ITEMS_TEXT, rows)


def study_equivalence(*, num_repeats: int, generator: np.random.Generator) -> Table:
    """Return how often the equivalence test says yes, at the margin and at zero."""
    rows: list[dict[str, Cell]] = []
    for world in WORLDS:
        large = replace(world, seed_deviation=0.004, num_examples=4000)
        for effect in (MARGIN, -MARGIN, 0.0):
            for num_seeds in (3, 5, 10):
                values = _draw(
                    large,
                    effect,
                    num_repeats=num_repeats,
                    num_seeds=num_seeds,
                    generator=generator,
                )
                p_values = [equivalence_p_value(row, margin=MARGIN) for row in values]
                rate = count(np.array(p_values) < SIGNIFICANCE)
                verdict = rate.against_most(SIGNIFICANCE) if effect != 0 else "power"
                labels = {"world": world.name, "seeds": num_seeds, "true pp": 100 * effect}
                rows.append(labels | rate_cells(rate, name="equivalent %") | {"verdict": verdict})
    return Table("equivalence", "Equivalence", EQUIVALENCE_TEXT, rows)


def _item_rows(
    draws: Sequence[ItemDraw], *, generator: np.random.Generator
) -> Iterator[dict[str, Cell]]:
    """Yield a row per interval and truth; the interval over examples where there is one seed."""
    if draws[0].differences.shape[1] == 1:
        single = [_over_examples(draw) for draw in draws]
        yield from _truth_rows("over examples", single, draws, truths=("runs", "population"))
    else:
        over_seeds = [_over_seeds(draw) for draw in draws]
        yield from _truth_rows("t", over_seeds, draws, truths=("examples", "population"))
    crossed = [
        crossed_bootstrap(draw.differences, draw.units, generator=generator, num_draws=_NUM_DRAWS)
        for draw in draws
    ]
    yield from _truth_rows("crossed bootstrap", crossed, draws, truths=("examples", "population"))


def _truth_rows(
    name: str,
    intervals: Sequence[Sequence[Interval]],
    draws: Sequence[ItemDraw],
    *,
    truths: Sequence[str],
) -> Iterator[dict[str, Cell]]:
    found = [interval for batch in intervals for interval in batch]
    for truth in truths:
        values = [np.broadcast_to(getattr(draw, truth), draw.examples.shape) for draw in draws]
        cells = _coverage_cells(found, np.concatenate(values))
        # held against what it does not speak of, an interval cannot fail, only be told apart
        if (name, truth) in _NOT_MEANT:
            cells["verdict"] = "not what it speaks of"
        yield {"interval": name, "truth": truth} | cells


def _over_seeds(draw: ItemDraw) -> list[Interval]:
    return [paired_t_interval(row) for row in draw.differences.sum(axis=2) / draw.units.sum()]


def _over_examples(draw: ItemDraw) -> list[Interval]:
    return [item_interval(row[0], draw.units) for row in draw.differences]


def _coverage_cells(intervals: Sequence[Interval], truths: Array) -> dict[str, Cell]:
    pairs = list(zip(intervals, truths, strict=True))
    rate = count([interval.low <= truth <= interval.high for interval, truth in pairs])
    width = float(np.mean([interval.high - interval.low for interval in intervals]))
    verdict = rate.against_exactly(1 - SIGNIFICANCE)
    return rate_cells(rate, name="covered %") | {"mean width pp": 100 * width, "verdict": verdict}


def _draw(
    world: World,
    effect: float,
    *,
    num_repeats: int,
    num_seeds: int,
    generator: np.random.Generator,
) -> Array:
    """Return the differences [F, S] of one arm."""
    return draw_differences(
        world, [effect], num_families=num_repeats, num_seeds=num_seeds, generator=generator
    )[:, 0]
