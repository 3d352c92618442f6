from dataclasses import replace

import numpy as np
import pytest

from fseed.simulation.items import draw_items
from fseed.simulation.scores import NOISES, WORLDS, World, draw_differences, draw_noise

NORMAL = WORLDS[0]


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_mean_zero_and_variance_one(kind: str) -> None:
    generator = np.random.default_rng(0)
    scale = np.exp(0.8 * generator.standard_normal((400_000, 1, 1)) - 0.64)
    values = draw_noise(kind, (400_000, 1, 1), scale=scale, generator=generator)
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.var() == pytest.approx(1, abs=0.06)


def test_only_skewed_and_collapsing_runs_lean_to_the_bad_side() -> None:
    generator = np.random.default_rng(1)
    ones = np.ones((100_000, 1, 1))
    skew = {
        kind: float((draw_noise(kind, ones.shape, scale=ones, generator=generator) ** 3).mean())
        for kind in NOISES
    }
    assert skew["skewed"] == pytest.approx(-2, abs=0.2)
    assert skew["collapsing"] < -1
    assert abs(skew["normal"]) < 0.1
    assert abs(skew["heteroscedastic"]) < 0.1


def test_an_unknown_noise_is_named() -> None:
    ones = np.ones((1, 1, 1))
    with pytest.raises(ValueError, match="noise loud: one of normal"):
        draw_noise("loud", (1, 1, 1), scale=ones, generator=np.random.default_rng(0))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_differences_have_the_planted_means(world: World) -> None:
    effects = np.array([0.0, 0.03, -0.02])
    values = draw_differences(
        world, effects, num_families=20_000, num_seeds=3, generator=np.random.default_rng(2)
    )
    assert values.shape == (20_000, 3, 3)
    error = values.std() / np.sqrt(60_000)
    assert values.mean(axis=(0, 2)) == pytest.approx(effects, abs=5 * error + 1e-4)


def test_arms_share_the_noise_of_their_baseline_and_seeds_do_not() -> None:
    values = draw_differences(
        NORMAL, np.zeros(2), num_families=20_000, num_seeds=2, generator=np.random.default_rng(3)
    )
    between_arms = np.corrcoef(values[:, 0, 0], values[:, 1, 0])[0, 1]
    between_seeds = np.corrcoef(values[:, 0, 0], values[:, 0, 1])[0, 1]
    assert between_arms == pytest.approx(0.5, abs=0.03)
    assert between_seeds == pytest.approx(0.0, abs=0.03)


def test_grouped_draws_spread_as_draws_example_by_example() -> None:
    world = replace(NORMAL, num_examples=60)
    grouped = draw_differences(
        world, [0.02], num_families=4000, num_seeds=3, generator=np.random.default_rng(4)
    )
    items = draw_items(
        world,
        0.02,
        item_effect=0.0,
        num_pairs=4000,
        num_seeds=3,
        generator=np.random.default_rng(5),
    )
    single = items.differences.sum(axis=2) / items.units.sum()
    assert grouped.std() == pytest.approx(single.std(), rel=0.05)
    assert grouped.mean() == pytest.approx(single.mean(), abs=0.005)


def test_the_three_truths_of_items_differ_as_they_should() -> None:
    draw = draw_items(
        replace(NORMAL, num_examples=50, seed_deviation=0.02),
        0.02,
        item_effect=0.1,
        num_pairs=3000,
        num_seeds=2,
        generator=np.random.default_rng(6),
    )
    assert draw.differences.shape == (3000, 2, 50)
    assert draw.examples.mean() == pytest.approx(0.02, abs=0.002)
    # half the examples gain 0.1 more, half less; weights are units
    weights = draw.units / draw.units.sum()
    assert draw.examples.std() == pytest.approx(0.1 * np.sqrt((weights**2).sum()), rel=0.05)
    # own noise of arm and baseline, mean over two seeds
    assert draw.runs.std() == pytest.approx(0.02, rel=0.05)
    observed = draw.differences.sum(axis=2).mean(axis=1) / draw.units.sum()
    assert np.corrcoef(observed, draw.examples)[0, 1] > 0.1
    assert np.corrcoef(observed, draw.runs)[0, 1] > 0.1


def test_the_generator_decides() -> None:
    def draw(seed: int) -> np.ndarray:
        return draw_differences(
            NORMAL, [0.0], num_families=3, num_seeds=3, generator=np.random.default_rng(seed)
        )

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_worlds_tell_an_aa_comparison_from_a_null_of_other_shape() -> None:
    assert [world.name for world in WORLDS if not world.is_aa] == ["skewed arms, normal baseline"]
