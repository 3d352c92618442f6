from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of earlier results."""
    path = tmp_path / "legacy"
    path.mkdir()
    return path
