"""A rate counted in a simulation, with its exact binomial interval and what it says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

_CONFIDENCE = 0.99  # of the binomial interval: dozens of rates are looked at together


@dataclass(frozen=True)
class Rate:
    """``count`` of ``trials`` and the Clopper-Pearson interval at 99 %."""

    count: int
    trials: int

    @property
    def value(self) -> float:
        """The rate itself."""
        return self.count / self.trials

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        tail = (1 - _CONFIDENCE) / 2
        return (
            float(betaincinv(self.count, self.trials - self.count + 1, tail)) if self.count else 0.0
        )

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        tail, missed = (1 - _CONFIDENCE) / 2, self.trials - self.count
        return float(betaincinv(self.count + 1, missed, 1 - tail)) if missed else 1.0

    def against_most(self, nominal: float) -> str:
        """Say whether an error rate keeps its nominal rate."""
        return "above nominal" if self.low > nominal else "kept"

    def against_exactly(self, nominal: float) -> str:
        """Say whether a coverage is its nominal one."""
        if self.high < nominal:
            return "too low"
        return "too high" if self.low > nominal else "kept"


def count(flags: ArrayLike) -> Rate:
    """Return the rate of true ``flags`` [any shape]."""
    array = np.asarray(flags, dtype=bool)
    return Rate(int(array.sum()), array.size)
