import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from fseed.results.equivalence import equivalence_p_value
from fseed.results.statistics import paired_t_interval


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.05])
def test_equals_statsmodels(num_seeds: int, margin: float) -> None:
    generator = np.random.default_rng(num_seeds)
    for _ in range(20):
        baseline = generator.normal(0.5, 0.02, num_seeds)
        arm = baseline + generator.normal(0.002, 0.01, num_seeds)
        expected = ttost_paired(arm, baseline, -margin, margin)[0]
        found = equivalence_p_value(arm - baseline, margin=margin)
        assert found == pytest.approx(expected, rel=1e-9)


def test_below_five_percent_is_a_ninety_percent_interval_inside_the_margin() -> None:
    generator = np.random.default_rng(0)
    told = []
    for row in generator.normal(0.003, 0.008, (300, 5)):
        interval = paired_t_interval(row, confidence=0.9)
        is_inside = interval.low > -0.01 and interval.high < 0.01
        assert (equivalence_p_value(row, margin=0.01) < 0.05) == is_inside
        told.append(is_inside)
    assert 0 < np.mean(told) < 1


def test_a_difference_beyond_the_margin_is_not_equivalent() -> None:
    assert equivalence_p_value([0.05, 0.06, 0.07], margin=0.01) > 0.95
    assert equivalence_p_value([-0.05, -0.06, -0.07], margin=0.01) > 0.95


def test_the_sign_does_not_matter() -> None:
    values = np.array([0.001, -0.002, 0.004])
    plain, mirrored = (equivalence_p_value(sign * values, margin=0.01) for sign in (1, -1))
    assert plain == pytest.approx(mirrored)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4]])
def test_without_a_spread_there_is_no_test(values: list[float]) -> None:
    assert equivalence_p_value(values, margin=0.5) == 1.0


@pytest.mark.parametrize("margin", [0.0, -0.01, float("nan")])
def test_the_margin_must_be_above_zero(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        equivalence_p_value([0.1, 0.2, 0.3], margin=margin)


def test_needs_three_seeds() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        equivalence_p_value([0.1, 0.2], margin=0.01)
