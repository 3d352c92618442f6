"""Reports are believed only as far as the tokens prove them."""

import signal

import pytest

from fseed.sandbox.report import MAX_LINE_BYTES, MEMORY_STATUS, Report, judge_report, read_report
from fseed.sandbox.verdict import Outcome, Verdict

TOKENS = ["first", "one", "two", "last"]


def verdict_of(*lines: str, exit_code: int | None = 0, **options) -> Verdict:
    report = Report(list(TOKENS))
    read_report(report, "".join(f"{line}\n" for line in lines).encode())
    return judge_report(
        report,
        ended_by=options.get("ended_by"),
        exit_code=exit_code,
        num_tests=2,
        seconds=0.5,
        level="namespaces",
        output=options.get("output", ""),
    )


def test_all_tokens_in_order_are_a_pass():
    verdict = verdict_of("started", *TOKENS)
    assert verdict == Verdict(Outcome.PASSED, 2, 2, 0.5, "", "namespaces", code_ran=True)


def test_tokens_may_arrive_in_pieces():
    report = Report(list(TOKENS))
    for byte in b"started\nfirst\none\ntwo\nlast\n":
        read_report(report, bytes([byte]))
    assert (report.complete, report.num_passed) == (True, 2)


@pytest.mark.parametrize(
    "lines",
    [
        ("first",),
        ("started", "ready"),
        ("started", "last"),
        ("started", "started"),
        ("started", "one"),
        ("started", "first", "two"),
        ("started", "first", "one", "one"),
        ("started", "first", "last"),
        ("started", "first", "one", "two", "two"),
        ("started", "first", "one", "two", "- error late"),
        ("started", "first", "one", "two", "guess"),
        ("started", "first", "one", ""),
        ("started", "first", "one", "x" * (MAX_LINE_BYTES + 1)),
    ],
)
def test_an_unexpected_line_is_no_pass(lines):
    verdict = verdict_of(*lines)
    assert verdict.outcome in (Outcome.FAILED_TESTS, Outcome.SANDBOX_ERROR)


@pytest.mark.parametrize("num_lines", range(1, 5))
def test_an_early_end_is_no_pass(num_lines):
    lines = ["started", *TOKENS][:num_lines]
    verdict = verdict_of(*lines)
    assert verdict.outcome is Outcome.FAILED_TESTS
    assert verdict.tests_passed == max(0, min(2, num_lines - 2))
    assert verdict.code_ran == (num_lines >= 2)


def test_an_endless_line_ends_the_reading():
    report = Report(list(TOKENS), started=True)
    read_report(report, b"x" * (MAX_LINE_BYTES + 1))
    assert report.forged
    assert report.finished


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        (("problem syntax SyntaxError: here",), Outcome.SYNTAX_ERROR),
        (("problem memory MemoryError",), Outcome.MEMORY),
        (("problem error NameError: x",), Outcome.FAILED_TESTS),
        (("first", "- error A", "- memory M", "last"), Outcome.MEMORY),
        (("first", "one", "- error A", "last"), Outcome.FAILED_TESTS),
    ],
)
def test_problems(lines, outcome):
    assert verdict_of("started", *lines).outcome is outcome


@pytest.mark.parametrize(
    ("exit_code", "outcome", "detail"),
    [
        (0, Outcome.FAILED_TESTS, "status 0"),
        (-signal.SIGXCPU, Outcome.TIMEOUT, "processor time"),
        (128 + signal.SIGXCPU, Outcome.TIMEOUT, "processor time"),
        (128 + signal.SIGSEGV, Outcome.FAILED_TESTS, "signal 11"),
        (MEMORY_STATUS, Outcome.MEMORY, "MemoryError"),
        (None, Outcome.FAILED_TESTS, "closed the report channel"),
    ],
)
def test_ends_of_the_process(exit_code, outcome, detail):
    verdict = verdict_of("started", exit_code=exit_code)
    assert verdict.outcome is outcome
    assert detail in verdict.detail


def test_details_are_printable():
    verdict = verdict_of("started", "problem memory \x1b[2J\x1b]0;title\x07\r")
    assert verdict.detail == " [2J ]0;title  "
    assert verdict_of(output="\x1b[31mred", exit_code=1).detail == " [31mred"


def test_a_limit_goes_before_everything():
    verdict = verdict_of("started", *TOKENS, ended_by=Outcome.OUTPUT_LIMIT)
    assert verdict.outcome is Outcome.OUTPUT_LIMIT


def test_a_sandbox_that_does_not_start_says_why():
    verdict = verdict_of(exit_code=1, output="Traceback\nOSError: mount: refused\n")
    assert (verdict.outcome, verdict.detail) == (Outcome.SANDBOX_ERROR, "OSError: mount: refused")
    silent = verdict_of(exit_code=1)
    assert (silent.outcome, silent.detail) == (
        Outcome.SANDBOX_ERROR,
        "the interpreter did not start",
    )
