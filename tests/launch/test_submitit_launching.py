"""The plugin's options on their way to submitit, and launchers that are not installed."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.errors import MissingConfigException
from hydra.types import HydraContext, RunMode

from fseed.compose import launcher_extras
from fseed.compose.friendly import explain
from fseed.compose.loader import CONFIG_NAME, hydra_session
from fseed.compose.submitit_launching import build_executor, is_submitit
from fseed.config.schema import Accelerator, LauncherConfig
from fseed.errors import UserError
from fseed.launch.job import Job
from fseed.run import main
from fseed.sweep.plan import runs_elsewhere
from tests.configs import compose
from tests.launch.jobs import make_jobs


def plugin_launcher(folder: Path, *words: str) -> Any:
    """Return the launcher that Hydra makes of a command line."""
    with hydra_session() as hydra:
        config = hydra.config_loader.load_configuration(
            config_name=CONFIG_NAME,
            overrides=[*words, f"hydra.sweep.dir={folder}"],
            run_mode=RunMode.MULTIRUN,
        )
        context = HydraContext(hydra.config_loader, Callbacks())
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=lambda _: None, config=config
        )


@pytest.fixture
def on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let submitit find a Slurm that is never called."""
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def script_of(launcher: Any, jobs: list[Job], options: LauncherConfig) -> dict[str, str]:
    """Return what the job script asks of Slurm."""
    executor = build_executor(launcher, jobs, options)._executor
    executor.parameters["map_count"] = 8
    text = executor._make_submission_file_text("run", "uid")
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.+)$", text, flags=re.MULTILINE))


@pytest.mark.usefixtures("on_slurm")
@pytest.mark.parametrize("choice", ["launcher=submitit_slurm", "hydra/launcher=submitit_slurm"])
def test_options_of_the_plugin_reach_the_job_script(tmp_path: Path, choice: str) -> None:
    words = [choice, "hydra.launcher.partition=short", "hydra.launcher.mem_gb=8"]
    launcher = plugin_launcher(tmp_path / "my sweep", *words)
    assert is_submitit(launcher)
    asked = script_of(launcher, make_jobs(tmp_path, "fine"), LauncherConfig(slots=3))
    wanted = {"partition": "short", "mem": "8GB", "array": "0-7%3", "job-name": "fseed"}
    assert asked.items() >= wanted.items()
    assert asked["signal"] == "USR2@120"
    assert "gpus-per-node" not in asked
    if choice.startswith("launcher"):
        assert (asked["time"], asked["cpus-per-task"]) == ("240", "4")


@pytest.mark.usefixtures("on_slurm")
@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ((), "gpus-per-node", "1"),
        (("hydra.launcher.gpus_per_node=2",), "gpus-per-node", "2"),
        (("hydra.launcher.gres=gpu:h100:1",), "gpus-per-node", None),
    ],
)
def test_runs_on_a_gpu_ask_for_one(
    tmp_path: Path, words: tuple[str, ...], key: str, value: str | None
) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    trainer = replace(job.run.config.trainer, accelerator=Accelerator.gpu)
    job = replace(job, run=replace(job.run, config=replace(job.run.config, trainer=trainer)))
    launcher = plugin_launcher(tmp_path, "launcher=submitit_slurm", *words)
    assert script_of(launcher, [job], LauncherConfig()).get(key) == value


@pytest.mark.usefixtures("on_slurm")
@pytest.mark.parametrize(
    ("threads", "devices", "expected"), [(None, 1, "4"), (8, 1, "8"), (3, 2, "6"), (None, 2, "4")]
)
def test_runs_ask_for_the_cores_that_they_compute_with(
    tmp_path: Path, threads: int | None, devices: int, expected: str
) -> None:
    (job,) = make_jobs(tmp_path, "fine")
    trainer = replace(job.run.config.trainer, num_threads=threads, devices=devices)
    job = replace(job, run=replace(job.run, config=replace(job.run.config, trainer=trainer)))
    launcher = plugin_launcher(tmp_path, "launcher=submitit_slurm")
    assert script_of(launcher, [job], LauncherConfig())["cpus-per-task"] == expected


def test_no_slurm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = plugin_launcher(tmp_path, "launcher=submitit_slurm")
    with pytest.raises(UserError, match='submitit_slurm: Could not detect "srun"'):
        build_executor(launcher, make_jobs(tmp_path, "fine"), LauncherConfig())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("launcher=submitit_slurm",), True),
        (("hydra/launcher=submitit_slurm",), True),
        (("launcher=ray", "launcher.ray_address=head:6379"), True),
        (("launcher=ray",), False),
        (("launcher=slots",), False),
        ((), False),
    ],
)
def test_the_machine_of_the_command_need_not_be_that_of_the_runs(
    words: tuple[str, ...], expected: bool
) -> None:
    assert runs_elsewhere(compose(*words)) is expected


@pytest.mark.parametrize("choice", ["launcher=submitit_slurm", "hydra/launcher=submitit_slurm"])
@pytest.mark.parametrize("sweep", [(), ("sweep=staged",)])
def test_no_gpu_is_needed_where_another_machine_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, choice: str, sweep: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["-m", "trainer=gpu", "fs=scalar_l10", "sweep.dry_run=true", *sweep]
    words.append(f"output.root={tmp_path / 'results'}")
    assert main([*words, choice]) == 0
    capsys.readouterr()
    assert main(words) == 2
    assert "trainer asks for a GPU, but" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "extra"), [("ray", "ray"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")]
)
def test_a_launcher_that_is_not_installed_is_two_lines_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, name: str, extra: str
) -> None:
    monkeypatch.setattr(launcher_extras, "find_spec", lambda _: None)
    words = [f"launcher={name}", "fs=scalar_l10", f"output.root={tmp_path / 'results'}", "-m"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert f"pip install 'fseed[{extra}]'" in err
    assert not (tmp_path / "results").exists()


def test_a_plugin_that_is_not_installed_says_which_extra_brings_it() -> None:
    error = MissingConfigException("nothing", "hydra/launcher/submitit_slurm", ["basic", "slots"])
    assert "pip install 'fseed[slurm]'" in explain(error)
    other = MissingConfigException("nothing", "hydra/launcher/submitit_slum", ["basic", "slots"])
    assert "no such option" in explain(other)
