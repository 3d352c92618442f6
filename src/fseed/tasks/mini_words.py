"""Words and keyed generators that the generated rows of several tasks share.

A change of a word list moves the rows of every task that uses it, so each of them then needs a new
``MINI_VERSION`` (their tests pin the first row).
"""

from collections.abc import Sequence

import numpy as np

from fseed.tasks.hotpot_mini import SPLITS

COLOURS = ("red", "blue", "green", "grey", "black", "white", "brown", "golden")
# their plural ends in s
THINGS = ("lamp", "drum", "boat", "chair", "clock", "rope", "kite", "jar", "bell", "map")


def keyed_generator(version: int, seed: int, split: str, *keys: int) -> np.random.Generator:
    """Return the generator of one row (one key) or of one block of rows (number and size)."""
    return np.random.default_rng([version, seed, SPLITS.index(split), *keys])


def shuffled_place(version: int, seed: int, split: str, *, index: int, size: int) -> int:
    """Return a number below ``size`` for row ``index``; ``size`` rows of a block have all of them.

    Blocks begin at the multiples of ``size``.
    """
    block, place = divmod(index, size)
    return int(keyed_generator(version, seed, split, block, size).permutation(size)[place])


def draw_words(rng: np.random.Generator, words: Sequence[str], number: int) -> list[str]:
    """Return ``number`` different words in random order."""
    return [words[int(place)] for place in rng.choice(len(words), number, replace=False)]
