import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower

from fseed.results import statistics
from fseed.results.statistics import (
    crossed_bootstrap,
    exact_mcnemar,
    item_interval,
    more_seeds_needed,
    paired_t_interval,
    smallest_detectable_effect,
)


class TestPairedTInterval:
    @pytest.mark.parametrize("num_seeds", [3, 4, 20])
    @pytest.mark.parametrize("confidence", [0.9, 0.95])
    def test_equals_scipy(self, num_seeds: int, confidence: float) -> None:
        values = np.random.default_rng(num_seeds).normal(0.01, 0.02, num_seeds)
        found = paired_t_interval(values, confidence=confidence)
        expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-10)
        assert found.mean == pytest.approx(values.mean())

    def test_covers_the_true_difference_at_three_seeds(self) -> None:
        draws = np.random.default_rng(0).normal(0.3, 1.0, (2000, 3))
        intervals = [paired_t_interval(row) for row in draws]
        covered = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
        assert 0.94 <= covered <= 0.96

    def test_equal_differences_have_no_width(self) -> None:
        found = paired_t_interval([0.25, 0.25, 0.25])
        assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)

    @pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2]])
    def test_needs_three_seeds(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match=r"needs at least 3|1 axes are expected"):
            paired_t_interval(values)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_refuses_what_is_not_finite(self, bad: float) -> None:
        with pytest.raises(ValueError, match="not finite"):
            paired_t_interval([0.1, 0.2, bad])


class TestItemInterval:
    def test_equals_the_t_interval_where_all_units_are_one(self) -> None:
        values = np.random.default_rng(1).integers(-1, 2, 50).astype(float)
        found = item_interval(values, np.ones(50))
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))

    def test_covers_the_true_ratio_with_uneven_units(self) -> None:
        generator = np.random.default_rng(2)
        covered = []
        for _ in range(1500):
            units = generator.integers(1, 8, 100)
            values = generator.binomial(units, 0.5) - generator.binomial(units, 0.4)
            found = item_interval(values, units)
            covered.append(found.low <= 0.1 <= found.high)
        assert 0.93 <= np.mean(covered) <= 0.965

    def test_needs_two_examples_and_a_unit(self) -> None:
        with pytest.raises(ValueError, match="at least 2 examples"):
            item_interval([1.0], [1.0])
        with pytest.raises(ValueError, match="one unit"):
            item_interval([0.0, 0.0], [0.0, 0.0])


def slow_crossed_bootstrap(
    differences: np.ndarray, units: np.ndarray, *, num_draws: int
) -> tuple[float, float]:
    """Resample by indices, one draw at a time."""
    generator = np.random.default_rng(5)
    num_seeds, num_items = differences.shape
    ratios = []
    for _ in range(num_draws):
        seeds = generator.integers(0, num_seeds, num_seeds)
        items = generator.integers(0, num_items, num_items)
        ratios.append(differences[np.ix_(seeds, items)].sum() / (num_seeds * units[items].sum()))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


class TestCrossedBootstrap:
    def test_equals_a_plain_loop_up_to_drawing(self) -> None:
        generator = np.random.default_rng(3)
        units = generator.integers(1, 6, 60)
        values = generator.integers(-1, 2, (1, 5, 60))
        (found,) = crossed_bootstrap(values, units, generator=generator)
        low, high = slow_crossed_bootstrap(values[0], units, num_draws=4000)
        assert found.mean == pytest.approx(values[0].sum() / (5 * units.sum()))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)

    def test_draws_are_multinomial(self) -> None:
        weights = statistics._draw_weights(np.random.default_rng(0), size=7, num_draws=20_000)
        assert (weights.sum(axis=1) == 7).all()
        expected = np.random.default_rng(1).multinomial(7, [1 / 7] * 7, size=20_000)
        assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.03)
        assert np.cov(weights.T) == pytest.approx(np.cov(expected.T), abs=0.04)

    def test_is_conservative_on_crossed_noise(self) -> None:
        generator = np.random.default_rng(4)
        shape = (300, 5, 40)
        noise = generator.normal(0, 1, (300, 5, 1)) + generator.normal(0, 1, (300, 1, 40))
        values = 0.5 + noise + generator.normal(0, 1, shape)
        found = crossed_bootstrap(values, np.ones(40), generator=generator, num_draws=1000)
        covered = np.mean([interval.low <= 0.5 <= interval.high for interval in found])
        assert covered >= 0.85

    def test_the_generator_decides_and_the_chunk_size_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values, units = np.ones((1, 3, 4)) * np.arange(4), np.full(4, 3)
        arguments = {"num_draws": 500}

        def draw() -> list[statistics.Interval]:
            generator = np.random.default_rng(9)
            return crossed_bootstrap(values, units, generator=generator, **arguments)

        first = draw()
        assert draw() == first
        monkeypatch.setattr(statistics, "_CHUNK_ENTRIES", 40)
        (chunked,) = draw()
        assert chunked.low == pytest.approx(first[0].low, abs=0.1)

    def test_shapes_must_fit(self) -> None:
        generator = np.random.default_rng(0)
        with pytest.raises(ValueError, match="do not fit"):
            crossed_bootstrap(np.zeros((1, 3, 4)), np.ones(5), generator=generator)
        with pytest.raises(ValueError, match="3 axes are expected"):
            crossed_bootstrap(np.zeros((3, 4)), np.ones(4), generator=generator)


class TestExactMcnemar:
    @pytest.mark.parametrize("rates", [(0.5, 0.5), (0.7, 0.4), (1.0, 0.0)])
    def test_equals_statsmodels(self, rates: tuple[float, float]) -> None:
        generator = np.random.default_rng(0)
        arm, base = (generator.random(40) < rate for rate in rates)
        table = [[(arm & base).sum(), (arm & ~base).sum()], [(~arm & base).sum(), 0]]
        expected = mcnemar(table, exact=True).pvalue
        assert exact_mcnemar(arm, base) == pytest.approx(min(1.0, expected))

    def test_without_discordant_examples_nothing_is_known(self) -> None:
        assert exact_mcnemar([True, False], [True, False]) == 1.0

    def test_both_must_be_of_one_length(self) -> None:
        with pytest.raises(ValueError, match="both must be"):
            exact_mcnemar([True], [True, False])


class TestPower:
    @pytest.mark.parametrize("num_seeds", [3, 5, 30])
    @pytest.mark.parametrize("power", [0.8, 0.9])
    def test_detectable_effect_equals_statsmodels(self, num_seeds: int, power: float) -> None:
        found = smallest_detectable_effect(2.0, num_seeds=num_seeds, power=power)
        expected = TTestPower().solve_power(nobs=num_seeds, alpha=0.05, power=power)
        assert found == pytest.approx(2.0 * expected, rel=1e-5)

    def test_a_planted_effect_is_found_with_the_stated_power(self) -> None:
        effect = smallest_detectable_effect(1.0, num_seeds=5)
        draws = np.random.default_rng(6).normal(effect, 1.0, (2000, 5))
        found = np.mean([paired_t_interval(row).low > 0 for row in draws])
        assert 0.77 <= found <= 0.83

    def test_more_seeds_is_the_smallest_number_that_detects(self) -> None:
        more = more_seeds_needed(0.5, 1.0, num_seeds=3)
        assert more is not None
        enough, few = 3 + more, 2 + more
        assert smallest_detectable_effect(1.0, num_seeds=enough) <= 0.5
        assert smallest_detectable_effect(1.0, num_seeds=few) > 0.5
        assert more_seeds_needed(-0.5, 1.0, num_seeds=3) == more

    def test_a_large_effect_needs_none_and_a_tiny_one_too_many(self) -> None:
        assert more_seeds_needed(10.0, 1.0, num_seeds=3) == 0
        assert more_seeds_needed(0.001, 1.0, num_seeds=3) is None
        assert more_seeds_needed(0.0, 1.0, num_seeds=3) is None

    def test_one_seed_has_no_spread(self) -> None:
        with pytest.raises(ValueError, match="at least 2 seeds"):
            smallest_detectable_effect(1.0, num_seeds=1)
