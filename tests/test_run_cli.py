"""``fseed.run`` from its command line to its exit code; the trainer is replaced by a stand-in."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig

from fseed.planned_run import PlannedRun, RunOutcome
from fseed.run import main
from tests.sweep.fake_training import FakeTraining, fail, files_below, start

MESSAGE_LINES = 3
COMPOSED: dict[str, DictConfig] = {}


class Command:
    """``fseed.run`` in this process, in an empty folder, with results below ``root``."""

    def __init__(self, root: Path, cwd: Path, capsys, monkeypatch) -> None:
        self.root, self.cwd = root, cwd
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.train = self.use(FakeTraining())

    def use(self, train: FakeTraining) -> FakeTraining:
        self.train = train
        self.monkeypatch.setattr("fseed.compose.job.train", train)
        self.monkeypatch.setattr("fseed.compose.commands.train", train)
        return train

    def __call__(self, *words: str) -> int:
        self.capsys.readouterr()
        self.code = main(words)
        self.out, self.err = self.capsys.readouterr()
        return self.code


@pytest.fixture(autouse=True)
def remembered_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the same words once for all tests of this file, which compose them 200 times."""
    original = ConfigLoaderImpl._load_configuration_impl

    def load(self: ConfigLoaderImpl, *words: Any, **named: Any) -> DictConfig:
        key = repr((str(self.config_search_path), words, named))
        if key not in COMPOSED:
            COMPOSED[key] = original(self, *words, **named)
        return copy.deepcopy(COMPOSED[key])

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load)


@pytest.fixture
def run(tmp_path: Path, capsys, monkeypatch) -> Command:
    root, cwd = tmp_path / "results", tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("FSEED_OUTPUTS", str(root))
    return Command(root, cwd, capsys, monkeypatch)


def results(run: Command) -> list[str]:
    return [path for path in files_below(run.root) if path.endswith("result.json")]


def test_a_plain_command_is_one_run(run: Command) -> None:
    assert run() == 0
    assert run.train.started == ["scalar_l10 s0"]
    assert run.train.positions == ["1/1"]
    (path,) = results(run)
    assert path.startswith("default/hotpot/plain/scalar_l10/s0-")


def test_a_sweep_adds_baselines_and_ends_with_its_table(run: Command) -> None:
    assert run("fs=scalar_l10", "seed=0,1,2", "-m") == 0
    assert run.train.started == [f"{fs} s{s}" for s in (0, 1, 2) for fs in ("no_fs", "scalar_l10")]
    assert run.train.positions == [f"{number}/6" for number in range(1, 7)]
    assert "6 runs: 6 new, 3 baselines added; 6 to start" in run.out
    assert "task hotpot, source mini, model nano, stage plain" in run.out
    assert (run.root / "default" / "tables" / "tables.md").is_file()


def test_a_finished_sweep_repeats_nothing_and_shows_its_table(run: Command) -> None:
    run("fs=scalar_l10", "seed=0,1", "-m")
    before = {path: (run.root / path).stat().st_mtime_ns for path in results(run)}
    train = run.use(FakeTraining())
    assert run("-m", "fs=scalar_l10", "seed=0,1") == 0
    assert train.started == []
    assert "4 runs: 4 finished, 2 baselines added; none to start" in run.out
    assert "stage plain" in run.out
    assert {path: (run.root / path).stat().st_mtime_ns for path in results(run)} == before


def test_a_longer_sweep_runs_only_what_is_new(run: Command) -> None:
    run("fs=scalar_l10", "seed=0,1", "-m")
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10,head_l8", "seed=range(0,3)", "-m") == 0
    expected = {"head_l8 s0", "head_l8 s1", "no_fs s2", "scalar_l10 s2", "head_l8 s2"}
    assert set(train.started) == expected
    assert "5 to start" in run.out


def test_a_single_run_is_not_repeated_either(run: Command) -> None:
    run("fs=scalar_l10")
    train = run.use(FakeTraining())
    assert run("fs=scalar_l8", "lstart=10") == 0
    assert train.started == []
    assert "finished already" in run.err


def test_a_failed_run_makes_exit_code_1_and_is_tried_again(run: Command) -> None:
    def crash(run: PlannedRun) -> RunOutcome:
        fail(run)
        return RunOutcome("failed", "out of memory", 1)

    run.use(FakeTraining({"no_fs s0": crash}))
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 1
    assert len(run.train.started) == 4
    assert "1/4  hotpot no_fs seed 0 failed: out of memory" in run.err
    assert "stage plain" in run.out
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 0
    assert train.started == ["no_fs s0"]


def test_a_job_that_leaves_does_not_end_the_sweep(run: Command) -> None:
    def leave(run: PlannedRun) -> RunOutcome:
        raise SystemExit(0)

    run.use(FakeTraining({"no_fs s0": leave}))
    assert run("fs=scalar_l10", "-m") == 1
    assert run.train.started == ["no_fs s0", "scalar_l10 s0"]


def test_ctrl_c_ends_with_the_table_and_130_and_the_same_command_continues(run: Command) -> None:
    def interrupt(run: PlannedRun) -> RunOutcome:
        start(run)
        return RunOutcome("interrupted", "stopped", 130)

    run.use(FakeTraining({"no_fs s1": interrupt}))
    assert run("fs=scalar_l10", "seed=0,1,2", "-m") == 130
    assert run.train.started == ["no_fs s0", "scalar_l10 s0", "no_fs s1"]
    assert "stopped; the same command continues where it stopped" in run.err
    assert "stage plain" in run.out
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10", "seed=0,1,2", "-m") == 0
    assert train.started == ["no_fs s1", "scalar_l10 s1", "no_fs s2", "scalar_l10 s2"]


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], ["seed=4"]])
def test_a_dry_run_starts_and_writes_nothing(run: Command, words: list[str]) -> None:
    assert run("fs=scalar_l10", "sweep.dry_run=true", *words) == 0
    assert run.train.started == []
    assert not run.root.exists()
    assert "scalar_l10" in run.out
    assert "to start, at most" in run.out


def test_a_dry_run_knows_what_is_finished(run: Command) -> None:
    run("fs=scalar_l10", "-m")
    run("fs=scalar_l10", "seed=0,1", "-m", "sweep.dry_run=true")
    statuses = [line.split() for line in run.out.splitlines() if line[:1].isdigit()][:-1]
    assert [("finished" in words, "new" in words) for words in statuses] == [
        *((True, False), (True, False)),
        *((False, True), (False, True)),
    ]


def test_an_experiment_sweeps_what_it_lists_unless_told_otherwise(run: Command) -> None:
    assert run("experiment=round21", "-m") == 0
    arms = ["scalar_l8_norm_node", "scalar_l8_trainable", "scalar_l8_sched_cos", "head_l8,alpha=m2"]
    assert run.train.started == ["no_fs s0", *(f"{arm} s0" for arm in arms)]
    train = run.use(FakeTraining())
    assert run("experiment=round21", "-m", "fs=head_l8", "seed=1") == 0
    assert train.started == ["no_fs s1", "head_l8,alpha=m2 s1"]


def test_an_experiment_without_m_is_one_run_and_says_so(run: Command) -> None:
    assert run("experiment=round21") == 0
    assert run.train.started == ["scalar_l8_norm_node s0"]
    assert "the experiment sweeps fs and seed: add -m to run all of it" in run.out


@pytest.mark.parametrize("words", [[], ["-m", "seed=0,1"]])
def test_nothing_is_written_outside_the_results(run: Command, words: list[str]) -> None:
    assert run("fs=scalar_l10", *words) == 0
    assert files_below(run.cwd) == []
    stray = [path for path in files_below(run.root) if ".hydra" in path or "multirun" in path]
    assert stray == []
    assert not any(path.endswith((".log", ".lock")) for path in files_below(run.root))


def test_relative_paths_start_where_the_command_was_given(run: Command) -> None:
    assert run("fs=scalar_l10", "output.root=here", "-m") == 0
    assert [path.name for path in run.cwd.iterdir()] == ["here"]
    assert not run.root.exists()


def test_another_sweeper_of_hydra_works_too(run: Command) -> None:
    assert run("hydra/sweeper=basic", "fs=no_fs,scalar_l10", "-m") == 0
    assert run.train.started == ["no_fs s0", "scalar_l10 s0"]
    assert files_below(run.cwd) == []


def test_a_launcher_gets_what_was_planned(run: Command, monkeypatch) -> None:
    """Any launcher works: it is handed words that compose, a number and a function to call."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    given: list[list[str]] = []
    original = BasicLauncher.launch

    def launch(self, job_overrides, initial_job_idx):
        given.extend(list(words) for words in job_overrides)
        return original(self, job_overrides, initial_job_idx)

    monkeypatch.setattr(BasicLauncher, "launch", launch)
    run("alpha.init=-2.5", "output.root='a b'", "-m")
    assert [words[:2] for words in given] == [
        ["output.root='a b'", "fs=no_fs"],
        ["alpha.init=-2.5", "output.root='a b'"],
    ]
    assert run.train.started == ["no_fs s0", "scalar_l10,alpha.init=-2.5 s0"]


def test_notes_come_before_the_run(run: Command) -> None:
    assert run("fs=scalar_l10", "alpha=m3", "fs_variant.clip=64") == 0
    assert "note: fs_variant.clip=64 can never bind" in run.out


BAD_INPUT = [
    ["fs=scaler_l10"],
    ["fss=1"],
    ["budget.steps=abc"],
    ["budget.steps=0"],
    ["budget.tokens=-3", "budget.steps=null"],
    ["lstart=12"],
    ["lstart=0"],
    ["fs=[a,b]"],
    ["seed=0,1"],
    ["-m", "seed=0,1", "lstart=10,12"],
    ["weights=/no/such/file.pth"],
    ["model=custom"],
    ["model=g1d_0b1"],
    ["data=local"],
    ["data=local", "data.root=/no/such/folder"],
    ["output.root=/proc/fseed"],
    ["trainer.wkv_backend=triton"],
    ["task.order=backwards"],
    ["hydra/launcher=nowhere", "-m"],
    ["--cfg", "job", "-p", "optimm"],
    ["--nonsense"],
    ["experiment=round20", "fs=[a]", "-m"],
]


@pytest.mark.parametrize("words", BAD_INPUT, ids=" ".join)
def test_bad_input_is_a_few_lines_code_2_and_nothing_written(
    run: Command, words: list[str]
) -> None:
    assert run(*words) == 2
    assert run.out == ""
    assert run.err.startswith("error: ")
    assert 1 <= len(run.err.splitlines()) <= MESSAGE_LINES
    assert run.train.started == []
    assert not run.root.exists()
    assert files_below(run.cwd) == []


def test_a_gpu_that_is_not_there_is_refused(run: Command, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run("trainer=gpu") == 2
    assert "use trainer=cpu" in run.err


def test_a_file_in_place_of_the_results_is_refused(run: Command) -> None:
    run.root.write_text("")
    assert run() == 2
    assert "it is a file; give another output.root" in run.err


def test_the_configuration_is_printed_resolved(run: Command) -> None:
    assert run("--cfg", "job", "weights=/w.pth", "fs=head_l8", "-p", "model") == 0
    assert "weights: /w.pth" in run.out
    assert run("fs=head_l8", "--cfg", "job", "alpha.init=-2.5") == 0
    assert "  init: -2.5\n" in run.out
    assert "hydra:" not in run.out
    assert not run.root.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], "python -m fseed.run fs=scalar_l10 seed=0,1,2 -m"),
        (["--version"], "fseed 0.1.0 (hydra-core 1.3"),
        (["--info", "defaults"], "fs/scalar_l10"),
        (["--hydra-help"], "Configuration groups"),
        (["--shell-completion", "install=bash"], "complete "),
    ],
)
def test_what_is_printed_without_running(run: Command, words: list[str], expected: str) -> None:
    assert run(*words) == 0
    assert expected in run.out
    assert (run.err, run.train.started) == ("", [])


def test_the_shell_completes_groups_options_and_keys(run: Command, monkeypatch) -> None:
    for line, word in (
        ("fseed-run -m sched", "schedule="),
        ("fseed-run seed=0,1 -m fs=head_l", "fs=head_l10"),
        ("fseed-run budget.st", "budget.steps="),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        assert run("--shell-completion", "query=bash") == 0
        assert word in run.out.split()


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
        (["lstart=12"], 2),
        (["trainer=gpu"], 2),
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
import sys, time
from pathlib import Path
import fseed.compose.job
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
sys.exit(main(["fs=scalar_l10", "-m"]))
"""


def spawn(code: str, root: Path) -> subprocess.Popen[str]:
    checkout = str(Path(__file__).parents[1])
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


def test_records_say_how_the_run_was_asked_for(run: Command) -> None:
    run("fs=scalar_l10", "lstart=9", "seed=7", "-m")
    (path,) = [path for path in results(run) if "lstart=9" in path]
    choices = json.loads((run.root / path).with_name("choices.json").read_text())
    assert choices["arm"] == "scalar_l10,lstart=9"
    assert choices["choices"]["fs"] == "scalar_l10"
