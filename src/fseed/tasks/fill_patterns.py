"""Sequences with masked characters in the middle that follow from what stands to their right.

A text is drawn and then solved: ``solve_*`` reads the text alone, so a stored answer can be checked
against it. Layouts, with the answer of each example::

    rightcopy   L=5506|M=____|R=1762              1762    M equals R; L is noise
    constr      P=5506|M=____|R=17                6171    last of P, then the two of R in turn
    kvsort      M=____|R=O=<order>;t3ba           ab3t    the keys behind ; in the given order
    permfill    M=_b__|R=O=<order>;t3ba           a3t     the same with some cells visible

``<order>`` stands for all 36 keys (0-9, a-z) in random order; the example above has a, b, 3 and t
in this order. The layouts are those of the first Future-Seed experiments (github.com/yanghu819/
future-seed, rwkv-diff-future-seed/rwkv_diff_future_seed.py at 4461690), less the padding: a field
of eight # to the left of the sorted keys, and # to the right of every text.
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fseed.tasks.base import MASK, RowProblem

DIGITS = string.digits
KEYS = string.digits + string.ascii_lowercase

_RIGHTCOPY = re.compile(rf"L=([0-9]+)\|M=({MASK}+)\|R=([0-9]+)")
_CONSTR = re.compile(rf"P=([0-9]+)\|M=({MASK}+)\|R=([0-9]{{2}})")
_SORTED_KEYS = re.compile(rf"M=([0-9a-z{MASK}]+)\|R=O=([0-9a-z]+);([0-9a-z]+)")


@dataclass(frozen=True)
class Solution:
    """What belongs to the masked characters of a text, in order.

    ``copied`` is what copying without thinking puts there: L, P, or the keys as they stand.
    """

    answer: str
    copied: str


Solve = Callable[[str], Solution]


def draw_rightcopy(rng: np.random.Generator, *, num_digits: int) -> str:
    """Return ``L=..|M=____|R=..`` with two independent strings of digits."""
    return f"L={_digits(rng, num_digits)}|M={MASK * num_digits}|R={_digits(rng, num_digits)}"


def draw_constr(rng: np.random.Generator, *, num_digits: int) -> str:
    """Return ``P=..|M=____|R=..``; R has two digits, which may be equal."""
    return f"P={_digits(rng, num_digits)}|M={MASK * num_digits}|R={_digits(rng, 2)}"


def draw_sorted_keys(rng: np.random.Generator, *, num_keys: int, num_anchors: int) -> str:
    """Return ``M=____|R=O=<order>;<keys>`` with ``num_anchors`` of the sorted keys visible."""
    keys, order = _shuffle(rng)[:num_keys], _shuffle(rng)
    cells = [MASK] * num_keys
    for place in rng.permutation(num_keys)[:num_anchors].tolist():
        cells[place] = sorted(keys, key=order.index)[place]
    return f"M={''.join(cells)}|R=O={order};{keys}"


def solve_rightcopy(text: str) -> Solution:
    """Return R, copied from L; raises ``RowProblem``."""
    left, masked, right = _match(_RIGHTCOPY, text)
    if not len(left) == len(masked) == len(right):
        raise RowProblem("parts of different length")
    return Solution(answer=right, copied=left)


def solve_constr(text: str) -> Solution:
    """Return the last digit of P and then those of R in turn, copied from P; ``RowProblem``."""
    left, masked, right = _match(_CONSTR, text)
    if len(left) != len(masked):
        raise RowProblem("parts of different length")
    return Solution(answer=(left[-1] + right * len(left))[: len(left)], copied=left)


def solve_sorted_keys(text: str) -> Solution:
    """Return the masked keys of the sorted ones, copied from the unsorted; ``RowProblem``."""
    cells, order, keys = _match(_SORTED_KEYS, text)
    if sorted(order) != sorted(KEYS):
        raise RowProblem("order that does not have every key once")
    if len(set(keys)) != len(keys):
        raise RowProblem("repeated key")
    if len(cells) != len(keys):
        raise RowProblem("parts of different length")
    solved = sorted(keys, key=order.index)
    if any(cell not in (MASK, key) for cell, key in zip(cells, solved, strict=True)):
        raise RowProblem("visible cell that contradicts the order")
    masked = [place for place, cell in enumerate(cells) if cell == MASK]
    if not masked:
        raise RowProblem("no masked cell")
    return Solution(
        answer="".join(solved[place] for place in masked),
        copied="".join(keys[place] for place in masked),
    )


def _match(layout: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = layout.fullmatch(text)
    if found is None:
        raise RowProblem("text in another layout or alphabet")
    return found.groups()


def _digits(rng: np.random.Generator, number: int) -> str:
    return "".join(DIGITS[digit] for digit in rng.integers(len(DIGITS), size=number))


def _shuffle(rng: np.random.Generator) -> str:
    """Return all keys in random order."""
    return "".join(KEYS[place] for place in rng.permutation(len(KEYS)))
