"""What goes into the sandbox and what comes out: plain data."""

from dataclasses import dataclass, fields
from enum import Enum

from fseed.errors import UserError

# the smallest address space in which the interpreter starts with its thread of 32 MiB
MIN_MEMORY_MIB = 128


class Outcome(Enum):
    """How one program ended.

    ``PASSED`` means that every assertion was seen to hold. ``SYNTAX_ERROR`` is about the code
    alone, ``MEMORY`` covers a ``MemoryError`` and the limit on all processes together, and
    ``SANDBOX_ERROR`` says that the sandbox itself did not start: nothing is known of the program.
    """

    PASSED = "passed"
    FAILED_TESTS = "failed_tests"
    SYNTAX_ERROR = "syntax_error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    SANDBOX_ERROR = "sandbox_error"


@dataclass(frozen=True)
class SandboxOptions:
    """Limits of one program.

    ``timeout_seconds`` is wall time for code, setup and all tests, counted from the moment the
    interpreter is up; ``memory_mib`` is the address space of each process and the resident memory
    of all together, looked at every 50 ms (files in the directory and what the kernel holds for
    pipes, sockets and names are not in it); ``output_kib`` is stdout and stderr together;
    ``file_mib`` is one file and, where the directory is a file system of its own, all files;
    ``max_processes`` counts threads too. At level ``none`` processes are not counted, and one that
    leaves its parent is neither measured nor ended: it may outlive the verdict. Raises
    ``UserError`` for a limit that is not a positive number or too small to start.
    """

    timeout_seconds: float = 10.0
    memory_mib: int = 1024
    output_kib: int = 64
    file_mib: int = 16
    max_processes: int = 16

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = (int, float) if field.name == "timeout_seconds" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < 2**31:
                kind = "number" if float in kinds else "whole number"
                raise UserError(f"sandbox option {field.name}={value!r}: a {kind} above 0")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise UserError(
                f"sandbox option memory_mib={self.memory_mib}: at least {MIN_MEMORY_MIB}, "
                "or the interpreter does not start"
            )
        if self.max_processes < 2:
            raise UserError("sandbox option max_processes=1: at least 2 (a thread counts as one)")


@dataclass(frozen=True)
class Solution:
    """A program and its tests, run in the order ``code``, ``setup``, ``tests``.

    Each text of ``tests`` counts as one assertion: it holds when it runs to its end.
    """

    code: str
    setup: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What is known of one program.

    ``tests_passed`` of ``num_tests`` assertions held; ``code_ran`` says that code and setup ran to
    their end; ``seconds`` is wall time from the start of the interpreter; ``detail`` is one line
    for people; ``level`` is the isolation it ran under.
    """

    outcome: Outcome
    tests_passed: int
    num_tests: int
    seconds: float
    detail: str
    level: str
    code_ran: bool = False
