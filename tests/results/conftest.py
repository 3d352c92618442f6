"""Shared fixtures of the tests of results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_run
from fseed.results import index


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that tells how many runs were read since it was last called."""
    read: list[Path] = []

    def reading(path: Path) -> Any:
        read.append(path)
        return read_run(path)

    monkeypatch.setattr(index, "read_run", reading)

    def take() -> int:
        number = len(read)
        read.clear()
        return number

    return take
