"""Scores of generated MBPP programs, found by running them in the sandbox.

A program is run with the setup and then each test of its problem (``fseed.sandbox``).
``tests_passed`` counts single assertions over all problems. ``exec_ok`` says that the program (of
more than white space) and the setup ran to their end, whatever they compute. An example is not
scored, and its outcome is sandbox_error, when the sandbox of one of its programs did not start.
Worked example, two tests, three samples::

    greedy   1 of 2 assertions, ran to its end    assertions_passed 1, pass_at_1 0, exec_ok 1,
                                                  outcome failed_tests
    samples  right, wrong, wrong                  sampled_pass_at_1 1/3, sampled_pass_at_5 None

pass@k of n sampled programs, c of them right, is the unbiased estimate 1 - C(n-c, k) / C(n, k)
(Chen et al. 2021, section 2.1), for k not above n.
"""

import json
from collections.abc import Sequence
from math import comb

from fseed.config.schema import MbppConfig
from fseed.sandbox.run import run_solutions
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution, Verdict
from fseed.tasks.base import EncodedExample, ScoreRow
from fseed.tasks.metrics import END_OF_TEXT_ACCURACY, LOSS, TOKEN_ACCURACY, Metric, mean, ratio

SAMPLED_K = (1, 5, 10)

GENERATION_COLUMNS = (
    "outcome",
    "assertions_passed",
    "num_assertions",
    "pass_at_1",
    "exec_ok",
    *(f"sampled_pass_at_{k}" for k in SAMPLED_K),
)

METRICS: dict[str, Metric] = {
    "tests_passed": ratio(
        "Fraction of single assertions that hold for the greedy programs.",
        "assertions_passed",
        "num_assertions",
        is_generated=True,
    ),
    "exec_ok": mean(
        "Fraction of greedy programs that run to their end, tests aside.",
        "exec_ok",
        is_generated=True,
    ),
    "pass_at_1": mean(
        "Fraction of greedy programs that pass all their assertions.",
        "pass_at_1",
        is_generated=True,
    ),
    **{
        f"sampled_pass_at_{k}": mean(
            f"Estimated chance that one of {k} sampled programs passes; needs "
            f"mbpp.num_samples of at least {k}.",
            f"sampled_pass_at_{k}",
            is_generated=True,
        )
        for k in SAMPLED_K
    },
    "token_accuracy": TOKEN_ACCURACY,
    "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
    "loss": LOSS,
}


def score_generation(
    examples: Sequence[EncodedExample], texts: Sequence[Sequence[str]], scoring: MbppConfig
) -> list[ScoreRow]:
    """Run every program with its tests and return the columns of each example.

    The same program for the same tests runs once. Raises ``UserError`` without isolation.
    """
    wanted = [
        [_solution(example, text) for text in found]
        for example, found in zip(examples, texts, strict=True)
    ]
    distinct = list(dict.fromkeys(solution for row in wanted for solution in row))
    options = SandboxOptions(timeout_seconds=scoring.timeout_seconds, memory_mib=scoring.memory_mib)
    found = run_solutions(distinct, options=options, allow_unsandboxed=scoring.allow_unsandboxed)
    verdict_of = dict(zip(distinct, found, strict=True))
    return [score_programs(row[0], [verdict_of[solution] for solution in row]) for row in wanted]


def score_programs(greedy: Solution, verdicts: Sequence[Verdict]) -> ScoreRow:
    """Return the columns of one example from the verdicts of its greedy and sampled programs."""
    first, samples = verdicts[0], verdicts[1:]
    columns: ScoreRow = dict.fromkeys(GENERATION_COLUMNS)
    if any(verdict.outcome is Outcome.SANDBOX_ERROR for verdict in verdicts):
        columns["outcome"] = Outcome.SANDBOX_ERROR.value
        return columns
    columns["outcome"] = first.outcome.value
    columns["assertions_passed"] = float(first.tests_passed)
    columns["num_assertions"] = float(first.num_tests)
    columns["pass_at_1"] = float(first.outcome is Outcome.PASSED)
    columns["exec_ok"] = float(first.code_ran and bool(greedy.code.strip()))
    num_right = sum(verdict.outcome is Outcome.PASSED for verdict in samples)
    for k in SAMPLED_K:
        columns[f"sampled_pass_at_{k}"] = pass_at_k(len(samples), num_right, k=k)
    return columns


def pass_at_k(num_samples: int, num_right: int, *, k: int) -> float | None:
    """Return the unbiased estimate that one of ``k`` samples is right; None for too few samples.

    ``num_right`` of ``num_samples`` independent samples were.
    """
    if num_samples < k:
        return None
    return 1.0 - comb(num_samples - num_right, k) / comb(num_samples, k)


def _solution(example: EncodedExample, text: str) -> Solution:
    """Return what the sandbox runs for one answer."""
    reference = json.loads(example.reference)
    return Solution(code=text, setup=reference["setup"], tests=tuple(reference["tests"]))
