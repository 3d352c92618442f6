"""Bad input, and what is printed without running anything."""

import pytest

from tests.run_cli.command import Command
from tests.sweep.fake_training import files_below

MESSAGE_LINES = 3

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
    ["task.options="],
    ["task.options=3"],
    ["task.options.x=1"],
    ["task=arc", "task.options.x=1"],
    ["task=sudoku4", "task.options.num_blanks=many"],
    ["task=sudoku4", "task.options.num_blanks=99"],
    ["task=sudoku4", "task.options.unique=true"],
    ["task=mbpp", "budget.generate=false"],
    ["task=protein_ss", "task.options.dataset=porter6", "data=hub"],
    ["hydra/launcher=nowhere", "-m"],
    ["launcher=slots"],
    ["hydra/launcher=ray", "sweep.dry_run=true"],
    ["launcher.slots=2", "-m"],
    ["launcher.reuse=true"],
    ["launcher=sequential", "launcher.timeout_minutes=5", "launcher.reuse=true", "-m"],
    ["launcher.retries=0", "sweep=staged", "-m"],
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


def test_what_a_launcher_would_not_do_is_named(run: Command) -> None:
    assert run("launcher=submitit_local") == 2
    assert run.err.startswith("error: launcher=submitit_local: starts the runs of a sweep")
    assert run("launcher.slots=2", "launcher.reuse=true", "-m") == 2
    assert run.err.startswith("error: launcher.slots, launcher.reuse: launcher=sequential takes")
    assert run("launcher.slots=2") == 2
    assert run.err.startswith("error: launcher.slots: one run starts in this process")
    assert run("launcher=sequential", "launcher.retries=1") == 0
    assert len(run.train.started) == 1


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
        pytest.param(["--info", "defaults"], "fs/scalar_l10", marks=pytest.mark.slow),
        pytest.param(["--hydra-help"], "Configuration groups", marks=pytest.mark.slow),
        (["--shell-completion", "install=bash"], "complete "),
    ],
)
def test_what_is_printed_without_running(run: Command, words: list[str], expected: str) -> None:
    assert run(*words) == 0
    assert expected in run.out
    assert (run.err, run.train.started) == ("", [])


@pytest.mark.slow
def test_the_shell_completes_groups_options_and_keys(run: Command, monkeypatch) -> None:
    for line, word in (
        ("fseed-run -m sched", "schedule="),
        ("fseed-run seed=0,1 -m fs=head_l", "fs=head_l10"),
        ("fseed-run budget.st", "budget.steps="),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        assert run("--shell-completion", "query=bash") == 0
        assert word in run.out.split()


def test_a_misspelt_option_of_a_task_gets_a_near_name(run: Command) -> None:
    assert run("task=mbpp", "task.options.num_note=2") == 2
    assert run.err == (
        "error: task.options.num_note=2: unknown for mbpp; did you mean num_notes?\n"
        "options: num_notes\n"
    )
