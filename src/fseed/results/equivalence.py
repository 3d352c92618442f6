"""Is an arm as good as its baseline, up to a stated margin? Two one-sided t tests over seeds."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from fseed.results.statistics import has_spread, seed_differences


def equivalence_p_value(differences: ArrayLike, *, margin: float) -> float:
    """Return the larger p of the two one-sided t tests that the mean lies inside +-``margin``.

    ``differences`` [S], S >= 3, and ``margin`` > 0 are in one unit. Below 0.05, the 90 % t
    interval of the mean lies inside the margin. Differences that are all equal give 1.0: without
    a spread there is no test.

    Raises:
        ValueError: for too few or not finite differences, or a margin that is not above zero.
    """
    values = seed_differences(differences)
    if not margin > 0:
        raise ValueError(f"margin {margin}: the largest difference that counts as none, above 0")
    if not has_spread(values):
        return 1.0
    error = values.std(ddof=1) / np.sqrt(values.size)
    degrees = values.size - 1
    above_lower = stdtr(degrees, -(values.mean() + margin) / error)
    below_upper = stdtr(degrees, (values.mean() - margin) / error)
    return float(max(above_lower, below_upper))
