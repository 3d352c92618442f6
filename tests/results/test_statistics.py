import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower

from fseed.results import statistics
from fseed.results.multiplicity import holm
from fseed.results.statistics import (
    ASSUMED_DEVIATION,
    crossed_bootstrap,
    exact_mcnemar,
    has_spread,
    interquartile_mean,
    item_interval,
    more_seeds_needed,
    paired_t_interval,
    paired_t_p_value,
    planned_detectable_effect,
    seed_differences,
    sign_counts,
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
        with pytest.raises(ValueError, match=r"at least 3|1 axes are expected"):
            paired_t_interval(values)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_refuses_what_is_not_finite(self, bad: float) -> None:
        with pytest.raises(ValueError, match="not finite"):
            paired_t_interval([0.1, 0.2, bad])


class TestPairedTPValue:
    @settings(deadline=None)
    @given(
        values=st.lists(st.floats(-1, 1).map(lambda value: round(value, 6)), min_size=3, max_size=9)
    )
    def test_equals_scipy_where_there_is_a_spread(self, values: list[float]) -> None:
        # wider than six rounded digits, so that scipy does not warn of lost precision
        if np.ptp(values) < 1e-5:
            return
        expected = stats.ttest_1samp(values, 0).pvalue
        assert paired_t_p_value(values) == pytest.approx(expected, rel=1e-6, abs=1e-12)

    def test_is_below_five_percent_where_the_interval_leaves_zero(self) -> None:
        draws = np.random.default_rng(3).normal(0.8, 1.0, (400, 5))
        leaves = []
        for row in draws:
            interval = paired_t_interval(row)
            leaves.append(interval.low > 0 or interval.high < 0)
            assert (paired_t_p_value(row) < 0.05) == leaves[-1]
        assert 0.1 < np.mean(leaves) < 0.9

    @pytest.mark.parametrize(
        "values", [[0.0, 0.0, 0.0], [0.25, 0.25, 0.25], [0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4]]
    )
    def test_equal_differences_are_no_evidence(self, values: list[float]) -> None:
        # the last row differs by rounding alone, a t statistic would be about 1e15
        assert not has_spread(values)
        assert paired_t_p_value(values) == 1.0

    def test_one_unit_of_a_million_is_a_spread(self) -> None:
        assert has_spread([0.25, 0.25, 0.25 + 1e-6])
        assert paired_t_p_value([0.25, 0.25, 0.25 + 1e-6]) < 1e-6

    def test_needs_three_finite_seeds(self) -> None:
        with pytest.raises(ValueError, match="2 differences: seeds need at least 3"):
            seed_differences([0.1, 0.2])
        with pytest.raises(ValueError, match="not finite"):
            paired_t_p_value([0.1, 0.2, np.nan])


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

    @pytest.mark.parametrize("num_seeds", [0, 1, 2])
    def test_two_seeds_have_no_spread(self, num_seeds: int) -> None:
        with pytest.raises(ValueError, match="at least 3 seeds"):
            smallest_detectable_effect(1.0, num_seeds=num_seeds)

    @pytest.mark.parametrize("bad", [-1.0, float("nan")])
    def test_a_deviation_is_not_below_zero(self, bad: float) -> None:
        with pytest.raises(ValueError, match="deviation"):
            smallest_detectable_effect(bad, num_seeds=3)

    def test_a_stricter_level_needs_more_seeds(self) -> None:
        plain = more_seeds_needed(1.0, 1.0, num_seeds=3)
        strict = more_seeds_needed(1.0, 1.0, num_seeds=3, significance=0.005)
        assert plain is not None
        assert strict is not None
        assert strict > plain


class TestPlannedEffect:
    @pytest.mark.parametrize("num_arms", [1, 4, 10])
    def test_equals_scipy_at_the_level_of_the_first_step(self, num_arms: int) -> None:
        # statsmodels does not converge at small levels
        found = planned_detectable_effect(num_seeds=5, num_arms=num_arms, deviation=0.02)
        critical = stats.t.isf(0.05 / num_arms / 2, df=4)
        power = stats.nct.sf(critical, df=4, nc=found / 0.02 * np.sqrt(5))
        assert power == pytest.approx(0.8, rel=1e-5)

    def test_holm_finds_one_planted_arm_among_nulls_with_the_stated_power(self) -> None:
        effect = planned_detectable_effect(num_seeds=5, num_arms=4, deviation=1.0)
        draws = np.random.default_rng(8).normal(0, 1, (2000, 4, 5))
        draws[:, 0] += effect
        found = [holm([paired_t_p_value(arm) for arm in sweep])[0] < 0.05 for sweep in draws]
        # a little above: now and then a null arm is rejected first
        assert 0.77 <= np.mean(found) <= 0.84

    def test_the_assumed_deviation_is_used_where_none_is_given(self) -> None:
        told = planned_detectable_effect(num_seeds=5, num_arms=2)
        own = planned_detectable_effect(num_seeds=5, num_arms=2, deviation=ASSUMED_DEVIATION)
        assert told == own

    def test_needs_an_arm(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            planned_detectable_effect(num_seeds=5, num_arms=0)


class TestAcrossTasks:
    @settings(deadline=None)
    @given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=20))
    def test_interquartile_mean_equals_scipy(self, values: list[float]) -> None:
        expected = stats.trim_mean(values, 0.25)
        assert interquartile_mean(values) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    def test_one_outlying_task_does_not_move_it(self) -> None:
        assert interquartile_mean([0.01, 0.02, 0.03, 0.9]) == pytest.approx(0.025)

    def test_signs_of_rounding_are_ties(self) -> None:
        assert sign_counts([0.1, -0.2, 0.3 - 0.2 - 0.1, 0.0, 0.4]) == (2, 2, 1)

    def test_no_task_and_no_number_are_refused(self) -> None:
        with pytest.raises(ValueError, match="1 axes"):
            interquartile_mean([])
        with pytest.raises(ValueError, match="not finite"):
            sign_counts([np.nan])
