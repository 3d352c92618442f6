from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fseed.compose.launching import is_sequential, set_launch_folder


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", True),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", False),
    ],
)
def test_only_the_launcher_of_one_process_gets_runs_one_by_one(target: str, expected: bool) -> None:
    config = OmegaConf.create({"hydra": {"launcher": {"_target_": target}}})
    assert is_sequential(config) is expected


def test_launchers_keep_their_files_in_the_folder_of_the_sweep() -> None:
    config = OmegaConf.create(
        {"hydra": {"sweep": {"dir": "elsewhere"}, "overrides": {"hydra": ["hydra.mode=MULTIRUN"]}}}
    )
    OmegaConf.set_readonly(config, True)
    set_launch_folder(config, Path("/results/it's here"))
    assert config.hydra.sweep.dir == "/results/it's here"
    assert config.hydra.overrides.hydra[-1] == r"hydra.sweep.dir='/results/it\'s here'"
