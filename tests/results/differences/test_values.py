"""Values as text."""

from typing import Any

import pytest

from fseed.results.differences.runs import ABSENT
from fseed.results.differences.values import fold_numbers, told_apart, value_text, values_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (ABSENT, "(absent)"),
        (False, "false"),
        (3e-05, "3e-05"),
        (-2.0, "-2.0"),
        (7, "7"),
        ("7", '"7"'),
        ("null", '"null"'),
        ("", '""'),
        ("scalar", "scalar"),
        ("two\nlines", "two lines"),
        ("0123456789abcdef" * 4, "01234567"),
        ("/home/someone/data/rows", ".../data/rows"),
        ("/x", ".../x"),
        ([24, "a", None], "[24, a, null]"),
        ([], "[]"),
    ],
)
def test_value_text(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "(not recorded)"),
        ([5], "5"),
        ([0, 2, 1, 9], "0-2, 9"),
        ([0.5, 1], "0.5, 1"),
        (["a", None], "a, null"),
        (list("abcdefg"), "7 values"),
    ],
)
def test_values_text(values: list[Any], text: str) -> None:
    assert values_text(values) == text


def test_fold_numbers() -> None:
    assert fold_numbers([3, 1, 1, 2, 8]) == "1-3, 8"
    assert fold_numbers([-1, 0, 5]) == "-1-0, 5"


def test_values_that_look_alike_are_told_apart() -> None:
    assert told_apart(["a", "b"], [["a"], ["b"]]) == ["a", "b"]
    found = told_apart([".../r", ".../r"], [["/x/r"], ["/y/r"]])
    assert found[0] != found[1]
    assert all(text.startswith(".../r #") for text in found)
