"""The command under test, in an empty folder."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig

from tests.run_cli.command import Command

COMPOSED: dict[str, DictConfig] = {}


@pytest.fixture(autouse=True)
def remembered_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the same words once for all tests of this folder, which compose them 200 times."""
    original = ConfigLoaderImpl._load_configuration_impl
    own_folder = "hydra.sweep.dir="  # differs from test to test

    def load(self: ConfigLoaderImpl, overrides: list[str], **named: Any) -> DictConfig:
        words = [word for word in overrides if not word.startswith(own_folder)]
        key = repr((str(self.config_search_path), words, named))
        if key not in COMPOSED:
            COMPOSED[key] = original(self, overrides=words, **named)
        config = copy.deepcopy(COMPOSED[key])
        for word in set(overrides) - set(words):
            config.hydra.sweep.dir = word.removeprefix(own_folder).strip("'")
        return config

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load)


@pytest.fixture
def run(tmp_path: Path, capsys, monkeypatch) -> Command:
    root, cwd = tmp_path / "results", tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("FSEED_OUTPUTS", str(root))
    return Command(root, cwd, capsys, monkeypatch)
