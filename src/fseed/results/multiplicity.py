"""P values of one family adjusted for their number: Holm and Benjamini-Hochberg.

Axis: M tests of one family, here the arms of one task and stage. Arms that were pruned before a
test count too: ``family_size`` is how many tests were meant, those without a p value count as 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def holm(p_values: ArrayLike, *, family_size: int | None = None) -> Array:
    """Return the p values [M] adjusted by Holm's steps, in the order given.

    Rejecting those below a level keeps the chance of one or more false rejections in the family
    at most at that level, whatever the dependence between the tests.

    Raises:
        ValueError: for a value that is no probability, or a family smaller than M.
    """
    values, size = _checked(p_values, family_size)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (size - np.arange(values.size))
    return _in_place(np.maximum.accumulate(steps), order)


def benjamini_hochberg(p_values: ArrayLike, *, family_size: int | None = None) -> Array:
    """Return the p values [M] adjusted by Benjamini and Hochberg, in the order given.

    Rejecting those below a level keeps the expected share of false ones among the rejections at
    most at that level when the tests are independent or positively dependent, as arms that share
    a baseline are.

    Raises:
        ValueError: for a value that is no probability, or a family smaller than M.
    """
    values, size = _checked(p_values, family_size)
    order = np.argsort(values, kind="stable")
    steps = values[order] * size / (1 + np.arange(values.size))
    return _in_place(np.minimum.accumulate(steps[::-1])[::-1], order)


def _checked(p_values: ArrayLike, family_size: int | None) -> tuple[Array, int]:
    values = np.asarray(p_values, dtype=np.float64)
    # nan fails both comparisons, so it is named here too
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values {values.tolist()}: one axis of numbers from 0 to 1 is expected")
    size = values.size if family_size is None else family_size
    if size < values.size:
        raise ValueError(f"a family of {size} cannot hold {values.size} p values")
    return values, size


def _in_place(steps: Array, order: NDArray[np.intp]) -> Array:
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
