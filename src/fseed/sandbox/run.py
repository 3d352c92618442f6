"""Judging many programs at once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

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
    verdict. Raises ``UserError`` when nothing isolates here and that was not allowed.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers={num_workers}: at least 1")
    if not solutions:
        return []
    level = require_isolation(allow_unsandboxed=allow_unsandboxed)
    workers = num_workers or len(os.sched_getaffinity(0))
    judge = partial(run_solution, options=options, level=level)
    with ThreadPoolExecutor(max_workers=min(workers, len(solutions))) as executor:
        return list(executor.map(judge, solutions))
