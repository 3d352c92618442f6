"""Drawn texts against rules written a second time, and the texts that are refused."""

import re

import numpy as np
import pytest

from fseed.tasks.base import MASK, RowProblem
from fseed.tasks.fill_patterns import (
    KEYS,
    Solution,
    draw_constr,
    draw_rightcopy,
    draw_sorted_keys,
    solve_constr,
    solve_rightcopy,
    solve_sorted_keys,
)

ORDER = "ab3t" + "".join(key for key in KEYS if key not in "ab3t")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("solve", "text", "answer", "copied"),
    [
        (solve_rightcopy, "L=5506|M=____|R=1762", "1762", "5506"),
        (solve_constr, "P=5506|M=____|R=17", "6171", "5506"),
        (solve_constr, "P=55061|M=_____|R=88", "18888", "55061"),
        (solve_sorted_keys, f"M=____|R=O={ORDER};t3ba", "ab3t", "t3ba"),
        (solve_sorted_keys, f"M=_b__|R=O={ORDER};t3ba", "a3t", "tba"),
    ],
)
def test_worked_examples(solve, text, answer, copied):
    assert solve(text) == Solution(answer=answer, copied=copied)


@pytest.mark.parametrize("num_digits", [1, 8, 16])
def test_rightcopy_is_what_stands_to_the_right(rng, num_digits):
    text = draw_rightcopy(rng, num_digits=num_digits)
    assert len(text) == 8 + 3 * num_digits
    left, masked, right = (part[2:] for part in text.split("|"))
    assert masked == MASK * num_digits
    assert solve_rightcopy(text) == Solution(answer=right, copied=left)


def test_constr_alternates_after_the_last_of_the_left(rng):
    for _ in range(50):
        text = draw_constr(rng, num_digits=9)
        found = re.fullmatch(r"P=\d{8}(\d)\|M=_{9}\|R=(\d)(\d)", text)
        assert found is not None
        last, first, second = found.groups()
        assert solve_constr(text).answer == last + (first + second) * 4


@pytest.mark.parametrize(("num_keys", "num_anchors"), [(20, 0), (24, 2), (36, 0), (36, 2)])
def test_keys_are_sorted_by_the_order_to_the_right(rng, num_keys, num_anchors):
    text = draw_sorted_keys(rng, num_keys=num_keys, num_anchors=num_anchors)
    cells, rest = text.removeprefix("M=").split("|R=O=")
    order, keys = rest.split(";")
    assert sorted(order) == sorted(KEYS)
    assert len(keys) == len(set(keys)) == len(cells) == num_keys
    answer = iter(solve_sorted_keys(text).answer)
    filled = [next(answer) if cell == MASK else cell for cell in cells]
    assert next(answer, None) is None
    assert filled == [key for key in order if key in keys]
    assert num_keys - cells.count(MASK) == num_anchors


def test_every_digit_and_key_is_drawn(rng):
    digits = "".join(draw_rightcopy(rng, num_digits=16) for _ in range(40))
    assert set("0123456789") <= set(digits)
    firsts = {draw_sorted_keys(rng, num_keys=20, num_anchors=0)[-20] for _ in range(400)}
    assert firsts == set(KEYS)
    anchors = {
        draw_sorted_keys(rng, num_keys=4, num_anchors=1)[2:6].rstrip(MASK).count(MASK)
        for _ in range(60)
    }
    assert anchors == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("solve", "text", "reason"),
    [
        (solve_rightcopy, "L=55|M=__|R=1", "parts of different length"),
        (solve_rightcopy, "L=5|M=__|R=12", "parts of different length"),
        (solve_rightcopy, "L=55|M=_|R=12", "parts of different length"),
        (solve_rightcopy, "L=5a|M=__|R=12", "text in another layout or alphabet"),
        (solve_rightcopy, "L=55|M=1_|R=12", "text in another layout or alphabet"),
        (solve_rightcopy, "L=55|M=__|R=12\n", "text in another layout or alphabet"),
        (solve_rightcopy, "L=5\u0665|M=__|R=12", "text in another layout or alphabet"),
        (solve_rightcopy, "", "text in another layout or alphabet"),
        (solve_constr, "P=55|M=_|R=12", "parts of different length"),
        (solve_constr, "P=55|M=__|R=123", "text in another layout or alphabet"),
        (solve_sorted_keys, f"M=__|R=O={ORDER[1:]};ab", "order that does not have every key once"),
        (solve_sorted_keys, f"M=__|R=O={ORDER}a;ab", "order that does not have every key once"),
        (solve_sorted_keys, f"M=__|R=O={ORDER};aa", "repeated key"),
        (solve_sorted_keys, f"M=_|R=O={ORDER};ab", "parts of different length"),
        (solve_sorted_keys, f"M=b_|R=O={ORDER};ab", "visible cell that contradicts the order"),
        (solve_sorted_keys, f"M=_c|R=O={ORDER};ab", "visible cell that contradicts the order"),
        (solve_sorted_keys, f"M=ab|R=O={ORDER};ab", "no masked cell"),
        (solve_sorted_keys, f"M=__|R=O={ORDER};aB", "text in another layout or alphabet"),
    ],
)
def test_texts_that_are_refused_say_why(solve, text, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        solve(text)
