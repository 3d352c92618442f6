"""What a hostile program is, and the limits it runs under."""

from dataclasses import dataclass, replace

from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution

LIMITS = SandboxOptions(
    timeout_seconds=1.0, memory_mib=256, output_kib=64, file_mib=4, max_processes=16
)

# for programs that end by themselves: on a busy machine the time must not come first
PATIENT = replace(LIMITS, timeout_seconds=5.0)

PASSED, FAILED, TIMEOUT = Outcome.PASSED, Outcome.FAILED_TESTS, Outcome.TIMEOUT
MEMORY, OUTPUT = Outcome.MEMORY, Outcome.OUTPUT_LIMIT

# name of the environment variable and of the files that the tests look for
SECRET = "FSEED_TEST_SECRET"
TRACE = "fseed_hostile_trace"


@dataclass(frozen=True)
class Hostile:
    """A program, its expected outcome and how many of its tests may hold."""

    name: str
    code: str
    outcomes: tuple[Outcome, ...]
    tests: tuple[str, ...] = ("assert answer(1) == 42",)
    tests_passed: int = 0
    levels: tuple[str, ...] = ("bubblewrap", "namespaces")
    options: SandboxOptions | None = None  # None: LIMITS or PATIENT, by the outcomes

    @property
    def limits(self) -> SandboxOptions:
        """Return the limits that the program runs under."""
        if self.options is not None:
            return self.options
        return LIMITS if TIMEOUT in self.outcomes else PATIENT

    @property
    def solution(self) -> Solution:
        """Return what the sandbox runs."""
        return Solution(self.code, "", self.tests)


def ends(name: str, code: str, *outcomes: Outcome) -> Hostile:
    """Return a program that must not pass."""
    return Hostile(name, code, outcomes)
