"""What the sweep gives when nothing disturbs it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.forks import Command
from tests.faults.sweeps import NUM_RUNS, digits, start_fresh


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the numbers of the sweep from one real, fresh process."""
    root = tmp_path_factory.mktemp("undisturbed")
    process = start_fresh(root)
    told, _ = process.communicate()
    assert process.returncode == 0, told
    found = digits(root)
    assert len(found) == NUM_RUNS
    return found


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Any:
    """Tell the fault table what a test has measured, in a few words."""
    return lambda words: request.node.user_properties.append(("told", words))


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Any]:
    """Start commands in one folder of results; none outlives the test."""
    started: list[Command] = []

    def start(*words: str, **options: Any) -> Command:
        started.append(Command(tmp_path / "results", *words, **options))
        return started[-1]

    yield start
    for command in started:
        for worker in command.workers():
            os.kill(worker, signal.SIGKILL)
        command.process.kill()
        command.process.join()
        command.process.close()
