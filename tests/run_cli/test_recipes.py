"""Experiments and the scripts of ``launch/``: all of them compose, plan and name real options."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fseed.collect import build_parser
from fseed.compose.command_line import parse_command_line
from fseed.compose.loader import Composer
from fseed.compose.overrides import expand_sweep, parse_overrides
from fseed.config.options import conf_dir, read_groups
from fseed.sweep.plan import plan_sweep
from tests.configs import composer
from tests.run_cli.command import Command, planned
from tests.sweep.fake_training import files_below

EXPERIMENTS = list(read_groups()["experiment"])
LAUNCH = conf_dir().parent / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
README = (LAUNCH / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^bash launch/(\S+) ?(.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)
# two rounds have a script for their earlier rule as well
WITHOUT_EXPERIMENT = {"all_tasks_mini", "round20_threshold", "round21_threshold"}
LAUNCHERS = {
    *("on_slots", "on_gpus", "on_submitit_local", "on_slurm", "on_ray", "on_ray_cluster"),
}

# stands in for python: writes its words down and does nothing
RECORDER = """\
#!/bin/sh
{ for word in "$@"; do printf '%s\\037' "$word"; done; echo; } >> "$FSEED_COMMANDS"
"""


def commands_of(script: Path, *words: str, folder: Path) -> list[list[str]]:
    """Run a script with a stand-in for python; return the words of each of its commands."""
    folder.mkdir(parents=True, exist_ok=True)
    recorder, log = folder / "python", folder / "commands"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FSEED_COMMANDS": str(log)}
    subprocess.run(["bash", str(script), *words], check=True, env=environment, cwd=folder)
    return [line.split("\037")[:-1] for line in log.read_text().splitlines()]


def check_command(words: list[str], composer: Composer) -> None:
    """Check one recorded command; a mistake is a UserError or an error of argparse."""
    assert words[0] == "-m"
    if words[1] == "fseed.collect":
        build_parser().parse_args(words[2:])
        return
    assert words[1] == "fseed.run"
    command = parse_command_line(words[2:])
    overrides = parse_overrides(
        command.overrides, multirun=command.is_sweep, config_loader=composer.loader
    )
    composer.compose(expand_sweep(overrides)[0])


@pytest.mark.parametrize(
    "script",
    [
        # composes every task
        pytest.param(
            one, marks=[pytest.mark.slow] if one.stem == "all_tasks_mini" else [], id=one.stem
        )
        for one in SCRIPTS
    ],
)
def test_every_script_calls_real_options_and_hands_words_on(script: Path, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    commands = commands_of(script, "data.num_train=64", folder=tmp_path)
    for words in commands:
        check_command(words, composer())
    runs = [words for words in commands if words[1] == "fseed.run"]
    assert runs
    assert all("data.num_train=64" in words for words in runs)


@pytest.mark.parametrize(("name", "words"), EXAMPLES)
def test_every_example_of_the_readme_composes(name: str, words: str, tmp_path: Path) -> None:
    commands = commands_of(LAUNCH / name, *shlex.split(words), folder=tmp_path)
    for command in commands:
        check_command(command, composer())


def test_every_experiment_has_a_script_and_a_row() -> None:
    names = {script.stem for script in SCRIPTS}
    assert names == {*EXPERIMENTS, *WITHOUT_EXPERIMENT, *LAUNCHERS}
    rows = set(re.findall(r"\| \[`(\w+)\.sh`\]\(\1\.sh\) \|", README))
    assert rows == names
    assert {Path(name).stem for name, _ in EXAMPLES} >= LAUNCHERS


def test_every_study_has_a_mini_run() -> None:
    mini = {Path(name).stem for name, words in EXAMPLES if "budget.steps=2" in words}
    assert mini >= {name for name in EXPERIMENTS if name.startswith("next_paper")}
    assert mini >= {"round20", "round20_matched", "round21"}


def test_an_experiment_sweeps_several_tasks(run: Command) -> None:
    assert run("experiment=round21", "-m", "fs=head_l8", "sweep.dry_run=true") == 0
    assert planned(run) == [*("no_fs s0", "head_l8,alpha=m2 s0") * 2]
    folders = [line.split()[-1] for line in run.out.splitlines() if line[:1].isdigit()][:-1]
    assert [Path(folder).parts[-4] for folder in folders] == [
        *("mbpp", "mbpp", "protein_contact", "protein_contact")
    ]


def test_arms_of_another_budget_have_no_baseline(tmp_path: Path) -> None:
    """The published comparison of round 20: 320 steps against 120."""
    words = ["experiment=round20", f"output.root={tmp_path}"]
    longer = [*words, "budget=steps_320", "sweep.baseline=none"]
    compose = composer().compose
    plan = plan_sweep(map(compose, [words, longer]), compose=compose)
    baseline, quick, medium = (entry.run for entry in plan.entries)
    assert [run.config.budget.steps for run in (baseline, quick, medium)] == [120, 120, 320]
    assert baseline.pair_key == quick.pair_key != medium.pair_key
    # both arms in one folder, so that the report can say which baseline would have been near
    assert quick.run_dir.parent == medium.run_dir.parent


def test_both_orders_of_every_task_are_planned(run: Command) -> None:
    words = ["experiment=next_paper_2", "task=hotpot,arc", "seed=0", "sweep.dry_run=true"]
    assert run(*words, "-m") == 0
    assert planned(run) == ["no_fs s0", "scalar_l8 s0"] * 4
    assert "8 runs: 8 new, 4 baselines added" in run.out


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_plans_all_of_its_runs(run: Command, name: str) -> None:
    assert run(f"experiment={name}", "-m", "sweep.dry_run=true") == 0
    assert f"{name}" in run.out
    assert files_below(run.cwd) == []
    assert not run.root.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_trains_two_steps(name: str, tmp_path: Path) -> None:
    words = [
        *(f"experiment={name}", "sweep=plain", "budget.steps=2", "budget.batch_size=2"),
        *("data.num_train=16", "data.num_validation=8", "data.num_test=8"),
        *("trainer.progress=false", f"output.root={tmp_path}"),
    ]
    command = [sys.executable, "-m", "fseed.run", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len([*tmp_path.rglob("result.json")]) == 1
