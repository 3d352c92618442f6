import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fseed.results.html.figures.scale import MIN_TICKS, build_scale, short_count

FINITE = st.floats(-1e12, 1e12, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=8))
def test_a_scale_holds_its_values_and_round_ticks(values: list[float]) -> None:
    scale = build_scale(values, start=0, end=100)
    for value in [*values, *scale.ticks]:
        assert -1e-6 <= scale.place(value) <= 100 + 1e-6
    assert MIN_TICKS <= len(scale.ticks) <= 21
    assert all(left < right for left, right in pairwise(scale.ticks))
    mantissa = scale.step / 10 ** math.floor(math.log10(scale.step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5)) < 1e-6


def test_a_reversed_scale_places_large_values_at_its_start() -> None:
    scale = build_scale([0, 10], start=200, end=20, padding=0)
    assert (scale.place(0), scale.place(10), scale.place(5)) == (200, 20, 110)
    assert scale.ticks == (0, 2, 4, 6, 8, 10)


def test_the_margin_does_not_cross_zero() -> None:
    assert build_scale([0, 10], start=0, end=1).low == 0
    assert build_scale([0.1, 10], start=0, end=1).low == 0
    assert build_scale([-0.1, 10], start=0, end=1).low < -0.1


def test_what_is_included_widens_the_scale() -> None:
    assert build_scale([5, 6], start=0, end=1, include=[0]).low == 0


@pytest.mark.parametrize("values", [[], [math.nan], [1, math.inf]])
def test_no_scale_without_finite_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        build_scale(values, start=0, end=1)


def test_labels_have_the_decimals_of_the_step_and_real_minus_signs() -> None:
    scale = build_scale([-1, 1], start=0, end=1)
    assert [scale.label(tick) for tick in scale.ticks] == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
    assert scale.label(0.5, is_signed=True) == "+0.5"
    assert [short_count(n) for n in (0, 800, 24_000, 1_500_000, 2e9)] == [
        *("0", "800", "24k", "1.5M", "2B")
    ]
