"""Verdicts of ordinary programs, and the refusal to run them without isolation."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fseed.errors import UserError
from fseed.sandbox import isolation, run
from fseed.sandbox.run import run_solutions
from fseed.sandbox.session import run_solution
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution, Verdict
from tests.sandbox.test_hostile import find_processes

OPTIONS = SandboxOptions(timeout_seconds=2.0, memory_mib=256)
NUM_REFERENCES = 974


@pytest.fixture(autouse=True)
def _needs_isolation():
    if isolation.isolation_level() == "none":
        pytest.skip("no level of isolation works here")


def judge(code: str, *tests: str, setup: str = "", options: SandboxOptions = OPTIONS) -> Verdict:
    return run_solutions([Solution(code, setup, tests)], options=options)[0]


def read_references(folder: Path, splits=("train", "validation", "test", "prompt")):
    rows = [row for name in splits for row in pq.read_table(folder / f"{name}.parquet").to_pylist()]
    return [Solution(row["code"], row["test_setup_code"], tuple(row["test_list"])) for row in rows]


def test_a_right_program_passes():
    verdict = judge("def f(n): return n + 1", "assert f(1) == 2", "assert f(2) == 3")
    assert verdict.outcome is Outcome.PASSED
    assert (verdict.tests_passed, verdict.num_tests, verdict.code_ran) == (2, 2, True)
    assert verdict.level == isolation.isolation_level()
    assert 0 < verdict.seconds < 2


def test_assertions_are_counted_one_by_one():
    tests = [f"assert f({n}) == {n * n}" for n in range(5)]
    verdict = judge("def f(n): return 2 * n", *tests)
    assert verdict.outcome is Outcome.FAILED_TESTS
    assert verdict.tests_passed == 2
    assert verdict.detail.startswith("AssertionError")


def test_setup_runs_between_code_and_tests():
    code = "class Node: pass\ntop = None"
    verdict = judge(code, "assert isinstance(top, Node)", setup="top = Node()")
    assert verdict.outcome is Outcome.PASSED


def test_broken_setup_is_no_syntax_error_of_the_code():
    verdict = judge("x = 1", "assert x", setup="top = = 1")
    assert verdict.outcome is Outcome.FAILED_TESTS
    assert not verdict.code_ran


@pytest.mark.parametrize(
    "code",
    ["def f(:", "x = 1\0", "x = '\ud800'", "if True:\nx = 1", "(" * 5000, "\tx = 1\n  y = 2"],
    ids=["colon", "null byte", "lone surrogate", "indentation", "brackets", "tabs"],
)
def test_code_that_does_not_compile(code):
    verdict = judge(code, "assert True")
    assert verdict.outcome is Outcome.SYNTAX_ERROR, verdict
    assert not verdict.code_ran
    assert verdict.tests_passed == 0


def test_a_test_that_does_not_compile_fails_alone():
    verdict = judge("x = 1", "assert x ==", "assert x == 1")
    assert (verdict.outcome, verdict.tests_passed) == (Outcome.FAILED_TESTS, 1)
    assert verdict.code_ran


def test_text_beyond_ascii():
    verdict = judge(
        "größe = 'naïve 漢字 🙂'", "assert größe == 'naïve 漢字 🙂'", "assert größe < ''"
    )
    assert (verdict.outcome, verdict.tests_passed) == (Outcome.FAILED_TESTS, 1)


def test_without_tests_nothing_is_shown():
    verdict = judge("x = 1")
    assert (verdict.outcome, verdict.num_tests) == (Outcome.FAILED_TESTS, 0)
    assert verdict.code_ran
    assert "no tests" in verdict.detail


def test_empty_code_fails_its_tests():
    assert judge("", "assert f(1) == 2").outcome is Outcome.FAILED_TESTS


def test_windows_line_ends():
    assert judge("def f(n):\r\n\treturn n\r\n", "assert f(1) == 1").outcome is Outcome.PASSED


def test_tests_passed_before_a_time_limit_count():
    code = "def f(n):\n    while n > 1: pass\n    return 42"
    tests = [f"assert f({n}) == 42" for n in (0, 1, 2)]
    verdict = judge(code, *tests, options=SandboxOptions(timeout_seconds=0.5))
    assert (verdict.outcome, verdict.tests_passed) == (Outcome.TIMEOUT, 2)


def test_names_and_modules_are_those_of_a_program():
    code = "import sys\nfrom collections import namedtuple\nP = namedtuple('P', 'x')"
    tests = ("assert __name__ == '__main__'", "assert sys.argv == ['']", "assert P(1).x == 1")
    assert judge(code, *tests).outcome is Outcome.PASSED


def test_long_texts_do_not_block():
    big = "x" * 300_000
    verdict = judge(f"a = '{big}'", *[f"assert a == '{big}'"] * 3)
    assert (verdict.outcome, verdict.tests_passed) == (Outcome.PASSED, 3)


def test_order_is_kept():
    solutions = [Solution(f"x = {n}", "", tuple(["assert x >= 3"] * n)) for n in range(1, 7)]
    verdicts = run_solutions(solutions, options=OPTIONS, num_workers=2)
    assert [verdict.num_tests for verdict in verdicts] == [1, 2, 3, 4, 5, 6]
    passed = [verdict.outcome is Outcome.PASSED for verdict in verdicts]
    assert passed == [False, False, True, True, True, True]


def test_no_solutions_no_verdicts():
    assert run_solutions([], options=OPTIONS) == []


def test_worker_number_is_checked():
    with pytest.raises(UserError, match="num_workers=0"):
        run_solutions([], options=OPTIONS, num_workers=0)


def test_refusal_without_isolation(monkeypatch):
    monkeypatch.setattr(isolation, "isolation_level", lambda: "none")
    with pytest.raises(UserError, match=r"mbpp\.allow_unsandboxed=true") as caught:
        run_solutions([Solution("x = 1", "", ("assert x",))], options=OPTIONS)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.fixture
def _fresh_warning():
    run._warn.cache_clear()
    yield
    run._warn.cache_clear()


@pytest.mark.usefixtures("_fresh_warning")
def test_without_isolation_it_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(run, "require_isolation", lambda allow_unsandboxed: "none")
    for _ in range(2):
        run_solutions([Solution("x = 1", "", ("assert x",))], options=OPTIONS)
    assert capsys.readouterr().err.count("with all your rights: files, network, processes") == 1


def test_without_isolation_the_processes_of_the_user_do_not_count():
    others = [subprocess.Popen(["sleep", "30"]) for _ in range(20)]
    code = "import threading\ndef f():\n    t = threading.Thread(target=int)\n    t.start()\n"
    try:
        solution = Solution(f"{code}    t.join()\n    return 1", "", ("assert f() == 1",))
        verdict = run_solution(solution, options=OPTIONS, level="none")
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert verdict.outcome is Outcome.PASSED


@pytest.mark.slow
def test_without_isolation_deep_folders_are_removed():
    code = "import os\nfor _ in range(1200):\n    os.mkdir('d')\n    os.chdir('d')"
    verdict = run_solution(Solution(code, "", ("assert 1",)), options=OPTIONS, level="none")
    assert verdict.outcome is Outcome.PASSED
    assert not list(Path(tempfile.gettempdir()).glob(f"fseed-sandbox-{os.getpid()}-*"))


def test_without_isolation_a_missing_temporary_folder_is_a_verdict(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    solution = Solution("x = 1", "", ("assert x",))
    verdict = run_solution(solution, options=OPTIONS, level="none")
    assert verdict.outcome is Outcome.SANDBOX_ERROR
    assert "FileNotFoundError" in verdict.detail


@pytest.mark.usefixtures("_fresh_warning")
def test_allowed_without_isolation(monkeypatch):
    monkeypatch.setattr(isolation, "isolation_level", lambda: "none")
    solutions = [
        Solution("x = 1", "", ("assert x",)),
        Solution("import time\ntime.sleep(60)", "", ("assert True",)),
        Solution("x = bytearray(2**30)", "", ("assert True",)),
    ]
    options = SandboxOptions(timeout_seconds=0.5, memory_mib=256)
    verdicts = run_solutions(solutions, options=options, allow_unsandboxed=True)
    outcomes = [verdict.outcome for verdict in verdicts]
    assert outcomes == [Outcome.PASSED, Outcome.TIMEOUT, Outcome.MEMORY]
    assert {verdict.level for verdict in verdicts} == {"none"}


def test_nothing_stays_when_the_caller_is_killed():
    program = (
        "from fseed.sandbox.run import run_solutions\n"
        "from fseed.sandbox.verdict import SandboxOptions, Solution\n"
        "code = 'import os, time; os.fork(); os.setsid(); time.sleep(60)'\n"
        "run_solutions([Solution(code, '', ('assert 1',))], options=SandboxOptions())\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", program])
    mark = f"fseed-sandbox-{caller.pid}-"
    try:
        assert wait_until(lambda: len(find_processes(mark)) >= 3)
    finally:
        caller.kill()
        caller.wait()
    assert wait_until(lambda: not find_processes(mark))


def wait_until(condition) -> bool:
    """Return whether ``condition`` comes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_some_reference_solutions_pass(shared_data):
    solutions = read_references(shared_data / "mbpp")[::25]
    verdicts = run_solutions(solutions, options=SandboxOptions(), num_workers=2)
    assert len(verdicts) == 39
    assert Counter(verdict.outcome for verdict in verdicts) == {Outcome.PASSED: 39}


@pytest.mark.slow
def test_every_reference_solution_passes(shared_data, capsys):
    solutions = read_references(shared_data / "mbpp")
    begun = time.monotonic()
    verdicts = run_solutions(solutions, options=SandboxOptions(), num_workers=2)
    per_second = len(solutions) / (time.monotonic() - begun)
    with capsys.disabled():
        print(f"\n{len(solutions)} reference solutions, {per_second:.1f} a second")
    assert len(solutions) == NUM_REFERENCES
    assert Counter(verdict.outcome for verdict in verdicts) == {Outcome.PASSED: NUM_REFERENCES}
    assert all(verdict.tests_passed == verdict.num_tests for verdict in verdicts)
    assert per_second >= 8
