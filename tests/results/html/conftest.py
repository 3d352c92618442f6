"""Collections that many tests look at; none of them changes a file."""

import shutil
from pathlib import Path

import pytest

from fseed.results.collection import Collection
from tests.results.html.builders import write_report_sweep, write_staged_sweep


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Return two tasks with all kinds of rows."""
    return write_report_sweep(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def staged_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("staged")


@pytest.fixture
def staged_copy(staged: Collection, staged_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the files of ``staged`` that a test may change."""
    return Path(shutil.copytree(staged_root, tmp_path, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def staged(staged_root: Path) -> Collection:
    """Return a staged search from quick to confirm."""
    return write_staged_sweep(staged_root)
