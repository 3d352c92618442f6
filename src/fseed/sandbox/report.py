"""What the driver reported, read line by line with distrust, and the verdict that follows.

``driver.py`` describes the lines. A line that is not the next one expected was written by the
program, and whatever it was meant to achieve, the program has not passed.
"""

import signal
from dataclasses import dataclass, field

from fseed.sandbox.verdict import Outcome, Verdict

MAX_LINE_BYTES = 4096
MAX_DETAIL_CHARACTERS = 200
# exit status of the driver when its own memory ran out
MEMORY_STATUS = 72


@dataclass
class Report:
    """The state of one report: ``tokens`` are that of the code, one a test and the last one."""

    tokens: list[str]
    started: bool = False
    code_ran: bool = False
    num_judged: int = 0
    num_passed: int = 0
    complete: bool = False
    forged: bool = False
    finished: bool = False
    problems: list[tuple[str, str]] = field(default_factory=list)
    pending: bytearray = field(default_factory=bytearray)


def read_report(report: Report, data: bytes) -> None:
    """Take what has arrived into account; no data means that the channel is closed."""
    if not data:
        report.finished = True
    report.pending += data
    while not report.finished and (end := report.pending.find(b"\n")) >= 0:
        line = report.pending[:end].decode("ascii", "replace")
        del report.pending[: end + 1]
        _read_line(report, line)
    if not report.finished and len(report.pending) > MAX_LINE_BYTES:
        _mark_forged(report)


def _read_line(report: Report, line: str) -> None:
    """Take one line into account."""
    mark, _, rest = line.partition(" ")
    if not report.started:
        report.started = line == "started"
        report.forged = not report.started
    elif not report.code_ran:
        report.code_ran = line == report.tokens[0]
        if mark == "problem":
            _add_problem(report, rest)
            report.finished = True
        elif not report.code_ran:
            _mark_forged(report)
    else:
        _read_test(report, line)


def _read_test(report: Report, line: str) -> None:
    """Take the line of one test, or the last line, into account."""
    num_tests = len(report.tokens) - 2
    mark, _, rest = line.partition(" ")
    if line == report.tokens[report.num_judged + 1]:
        if report.num_judged == num_tests:
            report.complete = report.finished = True
        else:
            report.num_passed += 1
    elif mark == "-" and report.num_judged < num_tests:
        _add_problem(report, rest)
    else:
        _mark_forged(report)
    report.num_judged += 1


def _add_problem(report: Report, text: str) -> None:
    """Remember a problem: its kind (syntax, memory, error) and its text."""
    kind, _, detail = text.partition(" ")
    report.problems.append((kind, detail[:MAX_DETAIL_CHARACTERS]))


def _mark_forged(report: Report) -> None:
    """Stop reading: the program wrote here itself."""
    report.forged = report.finished = True


def judge_report(
    report: Report,
    *,
    ended_by: Outcome | None,
    exit_code: int | None,
    num_tests: int,
    seconds: float,
    level: str,
    output: str,
) -> Verdict:
    """Return the verdict.

    ``ended_by`` is the limit that stopped the program, if one did; ``exit_code`` is None when the
    process did not end by itself.
    """
    if ended_by is None:
        outcome, detail = _judge_end(report, exit_code, output)
    else:
        outcome, detail = ended_by, _last_line(output) if ended_by is Outcome.SANDBOX_ERROR else ""
    return Verdict(
        outcome=outcome,
        tests_passed=report.num_passed,
        num_tests=num_tests,
        seconds=seconds,
        detail=printable(detail),
        level=level,
        code_ran=report.code_ran,
    )


def _judge_end(report: Report, exit_code: int | None, output: str) -> tuple[Outcome, str]:
    """Return outcome and detail of a program that ended by itself."""
    if not report.started:
        return Outcome.SANDBOX_ERROR, _last_line(output) or "the interpreter did not start"
    if report.forged:
        return Outcome.FAILED_TESTS, "the program wrote to the report channel"
    if report.problems:
        return _judge_problems(report.problems)
    if not report.complete:
        return _judge_exit(exit_code)
    if report.num_judged == 1:
        return Outcome.FAILED_TESTS, "no tests: nothing was shown"
    return Outcome.PASSED, ""


def _judge_problems(problems: list[tuple[str, str]]) -> tuple[Outcome, str]:
    """Return outcome and detail of the first problem, or the first about memory."""
    kind, detail = next((found for found in problems if found[0] == "memory"), problems[0])
    outcomes = {"syntax": Outcome.SYNTAX_ERROR, "memory": Outcome.MEMORY}
    return outcomes.get(kind, Outcome.FAILED_TESTS), detail


def _judge_exit(exit_code: int | None) -> tuple[Outcome, str]:
    """Return outcome and detail of a process that ended before its last line."""
    if exit_code is None:
        return Outcome.FAILED_TESTS, "the program closed the report channel"
    status = exit_code if exit_code >= 0 else 128 - exit_code
    if status == 128 + signal.SIGXCPU:
        return Outcome.TIMEOUT, "processor time"
    if status == MEMORY_STATUS:
        return Outcome.MEMORY, "MemoryError"
    if status > 128:
        return Outcome.FAILED_TESTS, f"the process was killed by signal {status - 128}"
    return Outcome.FAILED_TESTS, f"the program ended its process with status {status}"


def _last_line(output: str) -> str:
    """Return the last line of what was printed, shortened."""
    lines = output.strip().splitlines()
    return lines[-1][:MAX_DETAIL_CHARACTERS] if lines else ""


def printable(text: str) -> str:
    """Return ``text`` with spaces for what is not printable, such as the codes of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
