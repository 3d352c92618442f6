"""``fseed.run`` in processes of its own: imports, signals, two sweeps at once, real training."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run_cli.command import Command
from tests.sweep.fake_training import FakeTraining, files_below

LIGHT = """
import sys
from fseed.run import main
code = main(sys.argv[1:])
heavy = {"torch", "lightning", "pandas", "matplotlib", "datasets", "transformers"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["fs=scaler_l10"], 2),
        pytest.param(["lstart=12"], 2, marks=pytest.mark.slow),
        pytest.param(["trainer=gpu"], 2, marks=pytest.mark.slow),
        (["fs=scalar_l10", "seed=0,1,2", "sweep.dry_run=true", "-m"], 0),
    ],
    ids=str,
)
def test_light_commands_import_nothing_heavy(words: list[str], code: int, tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "FSEED_OUTPUTS": str(tmp_path / "r")}
    command = [sys.executable, "-c", LIGHT, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert files_below(tmp_path) == []


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
import fseed.compose.job
from fseed.compose import commands, job
from fseed.config.options import read_groups
from fseed.planned_run import RunOutcome
from fseed.run import main
from tests.sweep.fake_training import finish, start

def train(run, position):
    if run.arm == "no_fs":
        finish(run)
        return RunOutcome("finished", "", 0)
    start(run)
    print("training", flush=True)
    time.sleep(60)

fseed.compose.job.train = train
# a suite that was started in the background hands on that Ctrl-C is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["fs=scalar_l10", "-m"]))
"""


def spawn(code: str, root: Path) -> subprocess.Popen[str]:
    checkout = str(Path(__file__).parents[2])
    environment = os.environ | {"FSEED_OUTPUTS": str(root), "PYTHONPATH": checkout}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=pipe, stderr=pipe, text=True
    )


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line == "training\n":
            return
    assert process.stderr is not None
    pytest.fail(process.stderr.read())


def test_a_signal_in_the_middle_of_a_sweep(tmp_path: Path) -> None:
    with spawn(INTERRUPTED, tmp_path) as process:
        wait_for_training(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "the same command continues where it stopped" in err
    assert "Traceback" not in err
    assert "stage plain" in out


@pytest.mark.slow
def test_two_sweeps_in_one_folder_share_the_work(run: Command) -> None:
    """The second leaves the running run alone, does the rest, and says what it left."""
    with spawn(INTERRUPTED, run.root) as process:
        wait_for_training(process)
        assert run("fs=scalar_l10", "seed=0,1", "-m") == 0
        assert run.train.started == ["no_fs s1", "scalar_l10 s1"]
        assert "4 runs: 2 new, 1 running, 1 finished" in run.out
        process.kill()
        process.communicate()
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 0
    assert train.started == ["scalar_l10 s0"]
