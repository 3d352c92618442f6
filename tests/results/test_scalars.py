import math
from typing import Any

import pytest

from fseed.results.scalars import as_float, as_mapping, finite_number


@pytest.mark.parametrize(("value", "number"), [(0, 0.0), (-3, -3.0), (0.25, 0.25)])
def test_finite_numbers_are_floats(value: float, number: float) -> None:
    assert as_float(value) == finite_number(value) == number


@pytest.mark.parametrize("value", [None, True, "1", [], {"a": 1}])
def test_anything_else_is_no_number(value: Any) -> None:
    assert as_float(value) is None
    assert finite_number(value) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400, -(10**400)])
def test_what_is_too_large_is_infinite_and_not_finite(value: float) -> None:
    assert as_float(value) == math.copysign(math.inf, 1 if value > 0 else -1)
    assert finite_number(value) is None


def test_nan_is_a_float_and_not_finite() -> None:
    number = as_float(math.nan)
    assert number is not None
    assert math.isnan(number)
    assert finite_number(math.nan) is None


def test_what_is_no_mapping_is_an_empty_one() -> None:
    told = {"a": 1}
    assert as_mapping(told) is told
    assert [as_mapping(value) for value in (None, "x", [1], 3)] == [{}] * 4
