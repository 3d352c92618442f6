"""Golden scores of programs, and what is not scored."""

import json
from itertools import combinations

import pytest
from task_helpers import encoded

from fseed.config.schema import MbppConfig
from fseed.errors import UserError
from fseed.sandbox import isolation
from fseed.sandbox.verdict import Outcome, SandboxOptions, Verdict
from fseed.tasks import mbpp_scores
from fseed.tasks.mbpp import MBPP
from fseed.tasks.mbpp_scores import pass_at_k, score_generation
from fseed.tasks.scoring import pool_metrics

TESTS = ["assert twice(2) == 4", "assert twice(-1) == -2"]
RIGHT, WRONG = "def twice(n):\n    return n + n", "def twice(n):\n    return n * n"
HALF = "def twice(n):\n    return 2 * abs(n)"


@pytest.fixture
def _isolated():
    if isolation.isolation_level() == "none":
        pytest.skip("no level of isolation works here")


def score(*texts: str, scoring: MbppConfig | None = None):
    example = encoded(RIGHT, reference=json.dumps({"setup": "", "tests": TESTS}))
    return score_generation([example], [texts], scoring or MbppConfig(timeout_seconds=2))[0]


@pytest.mark.usefixtures("_isolated")
def test_golden_score():
    assert score(HALF, RIGHT, WRONG, RIGHT, RIGHT, WRONG) == {
        "outcome": "failed_tests",
        "assertions_passed": 1.0,
        "num_assertions": 2.0,
        "pass_at_1": 0.0,
        "exec_ok": 1.0,
        "sampled_pass_at_1": pytest.approx(0.6),
        "sampled_pass_at_5": 1.0,
        "sampled_pass_at_10": None,
    }


@pytest.mark.usefixtures("_isolated")
@pytest.mark.parametrize(
    ("text", "passed", "exec_ok"),
    [
        (RIGHT, 2.0, 1.0),
        (WRONG, 1.0, 1.0),
        ("def other(n):\n    return n", 0.0, 1.0),
        ("def twice(n):\n    retrun n", 0.0, 0.0),
        ("def twice(n):\n    return 2 * n\n1 / 0", 0.0, 0.0),
        ("import os\nos._exit(0)", 0.0, 0.0),
        ("while True: pass", 0.0, 0.0),
        ("", 0.0, 0.0),
        (" \n\t", 0.0, 0.0),
        ("def twice(n):\n    return '\0'", 0.0, 0.0),
        ("def twice(n):\n    return '\udcff'", 0.0, 0.0),
    ],
)
def test_scores_of_single_programs(text, passed, exec_ok):
    found = score(text, scoring=MbppConfig(timeout_seconds=0.5))
    assert (found["assertions_passed"], found["exec_ok"]) == (passed, exec_ok)
    assert found["pass_at_1"] == float(passed == 2)
    assert [found[f"sampled_pass_at_{k}"] for k in (1, 5, 10)] == [None] * 3


def test_equal_programs_run_once(monkeypatch):
    seen = []

    def run(solutions, *, options, allow_unsandboxed):
        seen.append((list(solutions), options, allow_unsandboxed))
        return [Verdict(Outcome.PASSED, 2, 2, 0.1, "", "namespaces", code_ran=True)] * len(
            solutions
        )

    monkeypatch.setattr(mbpp_scores, "run_solutions", run)
    scoring = MbppConfig(timeout_seconds=3, memory_mib=300, allow_unsandboxed=True)
    found = score(RIGHT, WRONG, RIGHT, RIGHT, scoring=scoring)
    solutions, options, allowed = seen[0]
    assert [solution.code for solution in solutions] == [RIGHT, WRONG]
    assert options == SandboxOptions(timeout_seconds=3, memory_mib=300)
    assert allowed
    assert found["sampled_pass_at_1"] == 1.0


def test_a_sandbox_that_did_not_start_is_no_score(monkeypatch):
    broken = Verdict(Outcome.SANDBOX_ERROR, 0, 2, 0.0, "mount", "namespaces")
    monkeypatch.setattr(
        mbpp_scores, "run_solutions", lambda solutions, **facts: [broken] * len(solutions)
    )
    found = score(RIGHT, WRONG)
    assert set(found) == set(MBPP.generation_columns)
    assert found.pop("outcome") == "sandbox_error"
    assert set(found.values()) == {None}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_sandbox_that_did_not_start_leaves_the_example_without_scores(monkeypatch, place):
    verdicts = [Verdict(Outcome.PASSED, 2, 2, 0.1, "", "namespaces", code_ran=True)] * 3
    verdicts[place] = Verdict(Outcome.SANDBOX_ERROR, 0, 2, 0.0, "mount", "namespaces")
    monkeypatch.setattr(mbpp_scores, "run_solutions", lambda solutions, **facts: verdicts)
    found = score(RIGHT, WRONG, HALF)
    assert found.pop("outcome") == "sandbox_error"
    assert set(found.values()) == {None}


def test_without_isolation_nothing_is_run(monkeypatch):
    monkeypatch.setattr(isolation, "isolation_level", lambda: "none")
    with pytest.raises(UserError, match=r"mbpp\.allow_unsandboxed=true"):
        score(RIGHT)


def test_metrics_pool_single_assertions():
    rows = [
        {"assertions_passed": 3.0, "num_assertions": 3.0, "pass_at_1": 1.0, "exec_ok": 1.0},
        {"assertions_passed": 0.0, "num_assertions": 9.0, "pass_at_1": 0.0, "exec_ok": 1.0},
        dict.fromkeys(MBPP.generation_columns),
    ]
    rows = [{"kind": "function", **row} for row in rows]
    found = pool_metrics(MBPP.metrics, rows)
    assert found["tests_passed"] == {"value": 0.25, "n": 12}
    assert found["pass_at_1"] == {"value": 0.5, "n": 2}
    assert found["exec_ok"] == {"value": 1.0, "n": 2}
    assert "sampled_pass_at_5" not in found
    assert MBPP.primary_metric == "tests_passed"


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(num_samples):
    for num_right in range(num_samples + 1):
        right = [place < num_right for place in range(num_samples)]
        for k in range(1, num_samples + 1):
            subsets = [any(subset) for subset in combinations(right, k)]
            share = sum(subsets) / len(subsets)
            assert pass_at_k(num_samples, num_right, k=k) == pytest.approx(share)
    assert pass_at_k(num_samples, 0, k=num_samples + 1) is None


def test_programs_are_compared_example_by_example():
    items = MBPP.metrics["tests_passed"].items
    assert items is not None
    row = {"assertions_passed": 1.0, "num_assertions": 3.0}
    assert items([row, {}]) == [(1.0, 3.0), None]
