"""``launcher=slots`` on the command line: Hydra's side, both sweepers, other sweepers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fseed.compose.job import PlannedJob, run_point
from fseed.compose.launching import find_jobs, is_sequential, launcher_options, wrap_outcomes
from fseed.config.schema import LauncherConfig, RunConfig
from fseed.planned_run import RunOutcome
from fseed.records import read_run
from tests.configs import composer
from tests.growing_logs import find_logs
from tests.launch.jobs import plan_runs, wait_until

TINY = (
    *("task=rightcopy", "budget.batch_size=2", "launcher.slots=2"),
    *("data.num_train=8", "data.num_validation=4", "data.num_test=4", "trainer.num_threads=1"),
)


def test_what_a_sweeper_of_ours_planned_is_what_runs(tmp_path: Path) -> None:
    planned = PlannedJob(plan_runs(tmp_path, "a", "b", "c"), ["1/3", "2/3", "3/3"])
    jobs = find_jobs(planned, [[], []], first=1, config_loader=composer().loader)
    assert [(job.run.arm, job.position) for job in jobs] == [("b", "2/3"), ("c", "3/3")]


def test_another_sweeper_gives_words_that_are_planned_here(tmp_path: Path) -> None:
    words = [["seed=4", f"output.root={tmp_path}"], ["seed=5", f"output.root={tmp_path}"]]
    jobs = find_jobs(run_point, words, first=2, config_loader=composer().loader)
    assert [job.run.config.seed for job in jobs] == [4, 5]
    assert [job.position for job in jobs] == ["3/4", "4/4"]


def test_outcomes_come_back_as_hydra_wants_them() -> None:
    outcome = RunOutcome("failed", "no memory", 1)
    assert [each.return_value for each in wrap_outcomes([outcome])] == [outcome]


def test_both_words_choose_the_launcher() -> None:
    for word in ("launcher=slots", "hydra/launcher=slots"):
        config = composer().loader.load_configuration(
            config_name="config", overrides=[word, "launcher.slots=3"], run_mode=2
        )  # type: ignore[arg-type]
        assert config.hydra.launcher._target_.endswith(".SlotsLauncher")
        assert not is_sequential(config)
        assert launcher_options(config) == LauncherConfig(slots=3)


def test_the_launcher_is_no_part_of_a_runs_identity() -> None:
    from fseed.identity import Hashes, identify

    hashes = Hashes("d", None, None, "c")
    config = composer().compose([]).config
    other = OmegaConf.structured(config)
    other.launcher.slots, other.launcher.reuse = 7, True
    changed = OmegaConf.to_object(other)
    assert isinstance(changed, RunConfig)
    assert identify(changed, hashes) == identify(config, hashes)


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fseed.run", *TINY, *words, "-m"]
    pipe = subprocess.PIPE
    environment = os.environ | {"FSEED_OUTPUTS": str(root)}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.slow
def test_a_staged_sweep_hands_over_every_run_that_is_due(tmp_path: Path) -> None:
    words = (
        *("fs=raw_l10,head_l10", "sweep=staged", "launcher=slots", "sweep.controls=false"),
        *("sweep.rule=threshold", "sweep.quick_threshold=1", "sweep.quick_seeds=1"),
        "budget.steps=2",
    )
    with start(tmp_path, *words) as process:
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    # three runs are due at once, for two slots
    starts = [line for line in err.splitlines() if "started in slot" in line]
    assert len(starts) == 3
    assert err.index("started in slot 1") < err.index("finished after")
    assert "dropped" in out


@pytest.mark.slow
def test_ctrl_c_on_a_real_sweep_and_the_same_command_again(tmp_path: Path) -> None:
    words = ("fs=raw_l10", "launcher=slots", "budget.steps=200")
    with start(tmp_path, *words) as process:
        deadline = time.monotonic() + 300
        while len(find_logs(tmp_path)) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command continues where it stopped" in err
    stopped = [read_run(path.parent) for path in tmp_path.rglob("config.yaml")]
    assert [record.status for record in stopped] == ["unfinished"] * 2
    with start(tmp_path, *words) as process:
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert "2 runs: 2 unfinished" in out
    wait_until(lambda: len(list(tmp_path.rglob("result.json"))) == 2, seconds=1)
