"""A handful of programs that show what the sandbox of this machine holds back."""

from dataclasses import dataclass

from fseed.sandbox.session import run_solution
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution, Verdict

CHECK_OPTIONS = SandboxOptions(
    timeout_seconds=1.0, memory_mib=256, output_kib=64, file_mib=4, max_processes=16
)

_STOPPED = """
import os, socket
def stopped(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False
"""


@dataclass(frozen=True)
class Check:
    """A program, its one test and the outcome that shows that all is well."""

    name: str
    code: str
    test: str
    expected: Outcome


CHECKS = (
    Check("a correct program passes", "def f(n): return n + 1", "assert f(1) == 2", Outcome.PASSED),
    Check("a wrong program fails", "def f(n): return n", "assert f(1) == 2", Outcome.FAILED_TESTS),
    Check("broken code", "def f(n) return n", "assert f(1) == 2", Outcome.SYNTAX_ERROR),
    Check(
        "no network",
        _STOPPED,
        "assert stopped(socket.create_connection, ('192.0.2.1', 80), 1)",
        Outcome.PASSED,
    ),
    Check(
        "no name service",
        _STOPPED,
        "assert stopped(socket.getaddrinfo, 'example.org', 80)",
        Outcome.PASSED,
    ),
    Check("no host files", _STOPPED, "assert stopped(open, '/etc/passwd')", Outcome.PASSED),
    Check("no writing outside", _STOPPED, "assert stopped(open, '/tmp/x', 'w')", Outcome.PASSED),
    Check(
        "a process that stays is ended",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)",
        "assert True",
        Outcome.FAILED_TESTS,
    ),
    Check("exit status 0 proves nothing", "import os", "os._exit(0)", Outcome.FAILED_TESTS),
    Check("time", "while True: pass", "assert True", Outcome.TIMEOUT),
    Check("memory", "x = bytearray(4 * 2**30)", "assert True", Outcome.MEMORY),
    Check("output", "while True: print('x' * 10000)", "assert True", Outcome.OUTPUT_LIMIT),
)


def run_check(check: Check, *, level: str) -> Verdict:
    """Run one check at a level of isolation."""
    solution = Solution(check.code, "", (check.test,))
    return run_solution(solution, options=CHECK_OPTIONS, level=level)
