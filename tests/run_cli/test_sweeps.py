"""Runs and sweeps from the command line to the exit code and the folder of results."""

import json

import pytest

from fseed.planned_run import PlannedRun, RunOutcome
from tests.run_cli.command import Command, planned, results
from tests.sweep.fake_training import FakeTraining, fail, files_below, start


def test_a_plain_command_is_one_run(run: Command) -> None:
    assert run() == 0
    assert run.train.started == ["scalar_l10 s0"]
    assert run.train.positions == ["1/1"]
    (path,) = results(run)
    assert path.startswith("default/hotpot/plain/scalar_l10/s0-")


def test_a_sweep_adds_baselines_and_ends_with_its_table(run: Command) -> None:
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 0
    assert run.train.started == [f"{fs} s{s}" for s in (0, 1) for fs in ("no_fs", "scalar_l10")]
    assert run.train.positions == ["1/4", "2/4", "3/4", "4/4"]
    assert "4 runs: 4 new, 2 baselines added; 4 to start" in run.out
    assert "task hotpot, source mini, model nano, stage plain" in run.out
    assert (run.root / "default" / "tables" / "tables.md").is_file()


def test_a_finished_sweep_repeats_nothing_and_shows_its_table(run: Command) -> None:
    run("fs=scalar_l10", "-m")
    before = {path: (run.root / path).stat().st_mtime_ns for path in results(run)}
    train = run.use(FakeTraining())
    assert run("-m", "fs=scalar_l10") == 0
    assert train.started == []
    assert "2 runs: 2 finished, 1 baseline added; none to start" in run.out
    assert "stage plain" in run.out
    assert {path: (run.root / path).stat().st_mtime_ns for path in results(run)} == before


@pytest.mark.slow
def test_a_longer_sweep_runs_only_what_is_new(run: Command) -> None:
    run("fs=scalar_l10", "-m")
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10,head_l8", "seed=range(0,2)", "-m") == 0
    assert set(train.started) == {"head_l8 s0", "no_fs s1", "scalar_l10 s1", "head_l8 s1"}
    assert "4 to start" in run.out


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
    assert run("fs=scalar_l10", "-m") == 1
    assert len(run.train.started) == 2
    assert "1/2  hotpot no_fs seed 0 failed: out of memory" in run.err
    assert "stage plain" in run.out
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10", "-m") == 0
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

    run.use(FakeTraining({"scalar_l10 s0": interrupt}))
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 130
    assert run.train.started == ["no_fs s0", "scalar_l10 s0"]
    assert "stopped; the same command continues where it stopped" in run.err
    assert "stage plain" in run.out
    train = run.use(FakeTraining())
    assert run("fs=scalar_l10", "seed=0,1", "-m") == 0
    assert train.started == ["scalar_l10 s0", "no_fs s1", "scalar_l10 s1"]


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], ["seed=4"]])
def test_a_dry_run_starts_and_writes_nothing(run: Command, words: list[str]) -> None:
    assert run("fs=scalar_l10", "sweep.dry_run=true", *words) == 0
    assert run.train.started == []
    assert not run.root.exists()
    assert "scalar_l10" in run.out
    assert "to start, at most" in run.out


@pytest.mark.slow
def test_a_dry_run_knows_what_is_finished(run: Command) -> None:
    run("fs=scalar_l10", "-m")
    run("fs=scalar_l10", "seed=0,1", "-m", "sweep.dry_run=true")
    statuses = [line.split() for line in run.out.splitlines() if line[:1].isdigit()][:-1]
    assert [("finished" in words, "new" in words) for words in statuses] == [
        *((True, False), (True, False)),
        *((False, True), (False, True)),
    ]


def test_an_experiment_sweeps_what_it_lists_unless_told_otherwise(run: Command) -> None:
    run("experiment=round21", "-m", "task=mbpp", "sweep.dry_run=true")
    arms = ["scalar_l8_norm_node", "scalar_l8_trainable", "scalar_l8_sched_cos", "head_l8,alpha=m2"]
    assert planned(run) == ["no_fs s0", *(f"{arm} s0" for arm in arms)]
    run("experiment=round21", "-m", "task=mbpp", "fs=head_l8", "seed=1", "sweep.dry_run=true")
    assert planned(run) == ["no_fs s1", "head_l8,alpha=m2 s1"]


def test_an_experiment_without_m_is_one_run_and_says_so(run: Command) -> None:
    assert run("experiment=round21") == 0
    assert run.train.started == ["scalar_l8_norm_node s0"]
    assert "the experiment sweeps task and fs and seed: add -m to run all of it" in run.out


@pytest.mark.parametrize("words", [[], ["-m"]])
def test_nothing_is_written_outside_the_results(run: Command, words: list[str]) -> None:
    assert run("fs=scalar_l10", *words) == 0
    assert files_below(run.cwd) == []
    stray = [path for path in files_below(run.root) if ".hydra" in path or "multirun" in path]
    assert stray == []
    assert not any(path.endswith((".log", ".lock")) for path in files_below(run.root))


@pytest.mark.slow
def test_relative_paths_start_where_the_command_was_given(run: Command) -> None:
    assert run("fs=scalar_l10", "output.root=here", "-m") == 0
    assert [path.name for path in run.cwd.iterdir()] == ["here"]
    assert not run.root.exists()


@pytest.mark.slow
def test_another_sweeper_of_hydra_works_too(run: Command) -> None:
    assert run("hydra/sweeper=basic", "fs=no_fs,scalar_l10", "-m") == 0
    assert run.train.started == ["no_fs s0", "scalar_l10 s0"]
    assert files_below(run.cwd) == []
    run.use(FakeTraining({"no_fs s1": lambda run: RunOutcome("failed", "no memory", 1)}))
    assert run("hydra/sweeper=basic", "fs=no_fs,scalar_l10", "seed=1", "-m") == 1


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


def test_records_say_how_the_run_was_asked_for(run: Command) -> None:
    run("fs=scalar_l10", "lstart=9", "seed=7", "-m")
    (path,) = [path for path in results(run) if "lstart=9" in path]
    choices = json.loads((run.root / path).with_name("choices.json").read_text())
    assert choices["arm"] == "scalar_l10,lstart=9"
    assert choices["choices"]["fs"] == "scalar_l10"
