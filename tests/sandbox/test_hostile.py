"""Every hostile program is contained at every level that works on this machine."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fseed.sandbox.isolation import probe
from fseed.sandbox.session import run_solution
from fseed.sandbox.verdict import Outcome, Verdict
from tests.sandbox.hostile import HOSTILE
from tests.sandbox.hostile_program import LIMITS, SECRET, TRACE, Hostile

SHORT = replace(LIMITS, timeout_seconds=0.2)
LEVELS = ("bubblewrap", "namespaces")
CASES = [
    pytest.param(level, hostile, id=f"{level}: {hostile.name}")
    for level in LEVELS
    for hostile in HOSTILE
    if level in hostile.levels
]


def run(level: str, hostile: Hostile) -> tuple[str, Verdict, float]:
    begun = time.monotonic()
    verdict = run_solution(hostile.solution, options=hostile.limits, level=level)
    return hostile.name, verdict, time.monotonic() - begun


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, tuple[Verdict, float]]]:
    """Return verdict and wall seconds by level and name, four at a time: many sleep."""
    os.environ[SECRET] = "do not tell"
    found: dict[str, dict[str, tuple[Verdict, float]]] = {}
    try:
        for level in LEVELS:
            if probe(level):
                continue
            programs = [hostile for hostile in HOSTILE if level in hostile.levels]
            with ThreadPoolExecutor(max_workers=4) as executor:
                results = executor.map(partial(run, level), programs)
                found[level] = {name: (verdict, seconds) for name, verdict, seconds in results}
    finally:
        del os.environ[SECRET]
    return found


def of_level(verdicts, level: str) -> dict[str, tuple[Verdict, float]]:
    if level not in verdicts:
        pytest.skip(f"{level}: {probe(level)}")
    return verdicts[level]


def test_names_are_different_and_there_are_enough():
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 30


@pytest.mark.parametrize(("level", "hostile"), CASES)
def test_program_is_contained(verdicts, level, hostile):
    verdict, seconds = of_level(verdicts, level)[hostile.name]
    assert verdict.outcome in hostile.outcomes, verdict
    assert verdict.tests_passed == hostile.tests_passed, verdict
    assert verdict.num_tests == len(hostile.tests)
    assert verdict.level == level
    assert seconds <= hostile.limits.timeout_seconds + 2


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_left(verdicts, level):
    assert of_level(verdicts, level)
    mark = f"fseed-sandbox-{os.getpid()}-"
    assert not find_processes(mark)
    assert not list(Path(tempfile.gettempdir()).glob(f"{mark}*"))


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_written(verdicts, level):
    assert of_level(verdicts, level)
    stdlib = Path(os.__file__).parent
    for folder in (Path("/"), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path.cwd(), stdlib):
        assert not list(folder.glob(f"*{TRACE}*"))


@pytest.mark.parametrize("level", LEVELS)
def test_no_process_is_left_at_the_moment_of_the_verdict(level):
    if probe(level):
        pytest.skip(f"{level}: {probe(level)}")
    code = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(20 * 2**20)\n"
    for end in ("time.sleep(9)", "os._exit(0)"):
        hostile = Hostile("many processes", code + end, (), options=SHORT)
        for _ in range(2):
            run(level, hostile)
            assert not find_processes(f"fseed-sandbox-{os.getpid()}-")


def find_processes(mark: str) -> list[str]:
    """Return the command lines that contain ``mark``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if mark.encode() in line:
            found.append(line.decode("utf-8", "replace"))
    return found


def test_the_mark_is_on_the_command_lines_of_a_running_program():
    level = next((level for level in LEVELS if not probe(level)), None)
    if level is None:
        pytest.skip("no level of isolation works here")
    sleeping = next(hostile for hostile in HOSTILE if hostile.name == "sleeping for ever")
    with ThreadPoolExecutor(max_workers=1) as executor:
        running = executor.submit(run, level, sleeping)
        time.sleep(0.5)
        assert find_processes(f"fseed-sandbox-{os.getpid()}-")
        assert running.result()[1].outcome is Outcome.TIMEOUT
