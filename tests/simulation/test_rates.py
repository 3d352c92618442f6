import pytest
from scipy.stats import binomtest

from fseed.simulation.rates import Rate, count


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (25, 50), (50, 50), (97, 2000)])
def test_the_interval_is_the_exact_binomial_one(hits: int, trials: int) -> None:
    rate = Rate(hits, trials)
    expected = binomtest(hits, trials).proportion_ci(0.99, method="exact")
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert rate.value == hits / trials


def test_an_error_rate_is_above_nominal_only_beyond_its_noise() -> None:
    assert Rate(120, 2000).against_most(0.05) == "kept"
    assert Rate(140, 2000).against_most(0.05) == "above nominal"
    assert Rate(0, 2000).against_most(0.05) == "kept"


def test_a_coverage_may_miss_on_either_side() -> None:
    assert Rate(1900, 2000).against_exactly(0.95) == "kept"
    assert Rate(1860, 2000).against_exactly(0.95) == "too low"
    assert Rate(1940, 2000).against_exactly(0.95) == "too high"


def test_count_takes_flags_of_any_shape() -> None:
    assert count([[True, False], [True, True]]) == Rate(3, 4)
