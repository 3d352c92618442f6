"""Judging many programs at once."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

from fseed.errors import UserError
from fseed.sandbox.isolation import require_isolation
from fseed.sandbox.session import run_solution
from fseed.sandbox.verdict import SandboxOptions, Solution, Verdict


def run_solutions(
    solutions: Sequence[Solution],
    *,
    options: SandboxOptions,
    allow_unsandboxed: bool = False,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Run every program in a sandbox of its own and return the verdicts in the same order.

    ``num_workers`` programs run at a time, by default one a processor. Strings are hashed with
    another seed in every process, so a program that depends on the order of a set may change its
    verdict. Raises ``UserError`` when nothing isolates here and that was not allowed; when it was,
    standard error says so, processes may outlive their verdicts, and a pass can be forged.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers={num_workers}: at least 1")
    if not solutions:
        return []
    level = require_isolation(allow_unsandboxed=allow_unsandboxed)
    if level == "none":
        _warn()
    workers = num_workers or len(os.sched_getaffinity(0))
    judge = partial(run_solution, options=options, level=level)
    with ThreadPoolExecutor(max_workers=min(workers, len(solutions))) as executor:
        return list(executor.map(judge, solutions))


@cache
def _warn() -> None:
    """Say once in a process what running without isolation means."""
    print(
        "WARNING: generated programs run WITHOUT ISOLATION, with all your rights: "
        "files, network, processes (mbpp.allow_unsandboxed=true)",
        file=sys.stderr,
        flush=True,
    )
