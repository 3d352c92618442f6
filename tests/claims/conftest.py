import shutil
from pathlib import Path

import pytest

from tests.claims.publishing import publish


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published study in which everything holds; read only."""
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of the published study."""
    return shutil.copytree(original, tmp_path / "checkout")
