"""Limits that mean nothing are refused."""

import pytest

from fseed.errors import UserError
from fseed.sandbox.verdict import Outcome, SandboxOptions


@pytest.mark.parametrize("name", ["timeout_seconds", "memory_mib", "output_kib", "file_mib"])
@pytest.mark.parametrize("value", [0, -1, True, "8", None, float("nan"), float("inf")])
def test_bad_limits(name, value):
    with pytest.raises(UserError, match=f"{name}="):
        SandboxOptions(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_mib": 64}, "at least 128"),
        ({"memory_mib": 512.5}, "whole number"),
        ({"max_processes": 1}, "at least 2"),
    ],
)
def test_limits_that_cannot_work(options, message):
    with pytest.raises(UserError, match=message):
        SandboxOptions(**options)


def test_a_fraction_of_a_second_is_a_limit():
    assert SandboxOptions(timeout_seconds=0.25).timeout_seconds == 0.25


def test_outcomes_are_those_of_the_records():
    assert [outcome.value for outcome in Outcome] == [
        "passed",
        "failed_tests",
        "syntax_error",
        "timeout",
        "memory",
        "output_limit",
        "sandbox_error",
    ]
