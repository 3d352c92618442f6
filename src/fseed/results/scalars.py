"""Values as records hold them: anything may stand where a number or a mapping should."""

import math
from collections.abc import Mapping
from typing import Any


def as_float(value: Any) -> float | None:
    """Return a number as a float, NaN and infinity too; None for anything else.

    Whole numbers beyond the range of floats become infinity; truth values are no numbers.
    """
    if type(value) is float:
        return value
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite_number(value: Any) -> float | None:
    """Return a finite number as a float, None for anything else."""
    number = as_float(value)
    return number if number is not None and math.isfinite(number) else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}
