"""Staged sweeps from the command line to the report."""

import json
from pathlib import Path

import pytest

from fseed.compose import staged
from fseed.planned_run import PlannedRun
from fseed.results.staged_files import read_decisions
from fseed.sweep.staged.probe_file import Probe
from tests.run_cli.command import Command
from tests.sweep.fake_training import files_below
from tests.sweep.staged.sweeps import ScoredTraining, helps_by

ARMS = "fs=scalar_l10,raw_l10"
# the arm that never gets beyond the first stage: six runs instead of 25
DROPPED = "fs=raw_l10"
SHORT = ("sweep.confirm_seeds=5", "sweep.controls=false")


@pytest.fixture
def train(run: Command, monkeypatch: pytest.MonkeyPatch) -> ScoredTraining:
    """Train and probe without torch."""

    def measure(planned: PlannedRun) -> Probe:
        return Probe(planned.arm, 10**6, None, 0.1, 100.0)

    monkeypatch.setattr(staged, "measure", measure)
    trained = ScoredTraining(helps_by(scalar_l10=0.05, raw_l10=-0.05))
    run.use(trained)  # pyright: ignore[reportArgumentType]
    return trained


@pytest.mark.parametrize(
    "word", [pytest.param("hydra/sweeper=staged", marks=pytest.mark.slow), "sweep=staged"]
)
def test_one_word_makes_a_sweep_staged(run: Command, train: ScoredTraining, word: str) -> None:
    assert run(ARMS, word, *SHORT, "-m") == 0, run.err
    folder = run.root / "default"
    assert {path.name for path in (folder / "hotpot").iterdir()} == {"quick", "medium", "confirm"}
    assert json.loads((folder / "plan.json").read_text())["tasks"] == ["hotpot"]
    passed = [d.arm for d in read_decisions(folder) if d.state == "passed"]
    assert passed == ["scalar_l10", "scalar_l10"]
    assert len(train.started) == 9 + 6 + 10
    assert "hotpot quick raw_l10: dropped: the interval ends below the wanted gain" in run.out
    assert "stage confirm" in run.out
    assert (folder / "tables" / "tables.md").is_file()
    assert not any(path.endswith(".lock") for path in files_below(run.root))
    assert files_below(run.cwd) == []


def test_the_same_command_continues_and_another_is_refused(
    run: Command, train: ScoredTraining
) -> None:
    words = (DROPPED, "sweep=staged", *SHORT, "-m")
    assert run(*words) == 0
    train.started.clear()
    assert run(*words) == 0
    assert train.started == []
    assert "resumed: " in run.out
    assert run(*words, "sweep.wanted_gain=0.02") == 2
    assert "rules.wanted_gain 0.01 -> 0.02" in run.err
    assert "another sweep.name" in run.err


def test_a_dry_run_prints_the_plan_and_writes_nothing(run: Command, train: ScoredTraining) -> None:
    assert run("task=hotpot,arc", DROPPED, "sweep=staged", "sweep.dry_run=true", "-m") == 0
    assert not run.root.exists()
    assert train.started == []
    assert "2 tasks: hotpot, arc" in run.out
    assert "time unknown until the probe" in run.out


def test_a_first_seed_can_be_given(run: Command, train: ScoredTraining) -> None:
    assert run(DROPPED, "sweep=staged", *SHORT, "seed=100", "-m") == 0
    assert {name.split()[-1] for name in train.started if " quick " in name} == {
        *("s100", "s101", "s102")
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=0,1,2"], "seed=0,1,2: a staged sweep counts its own seeds"),
        (["budget.steps=3,4"], "budget.steps=3,4: a staged sweep compares arms of Future-Seed"),
        (["model=nano,custom"], "model is part of none"),
        (["sweep.stage=mine"], "sweep.stage=mine: a staged sweep names its stages itself"),
        (["control=aa"], "control=aa: a staged sweep adds every control"),
        (["sweep.quick_seeds=2"], "sweep.quick_seeds=2: must be 3 or more"),
        (["sweep.wanted_gain=-1"], "wanted_gain -1"),
        (["sweep.rule=races"], "sweep.rule=races: expected one of race, halving, threshold"),
        (["sweep.diff_against=nowhere"], "sweep.diff_against=nowhere: no such folder"),
    ],
)
def test_what_a_staged_sweep_cannot_do_is_told(
    run: Command, train: ScoredTraining, words: list[str], told: str
) -> None:
    assert run("fs=raw_l10", "sweep=staged", "sweep.controls=false", "-m", *words) == 2
    assert told in run.err
    assert len(run.err.splitlines()) <= 3
    assert not run.root.exists()


@pytest.mark.parametrize("word", ["hydra/sweeper=staged", "sweep=staged"])
def test_a_staged_sweep_without_m_is_refused(run: Command, word: str) -> None:
    assert run("fs=raw_l10", word) == 2
    assert "add -m" in run.err


def test_the_threshold_rule_says_what_it_is(run: Command, train: ScoredTraining) -> None:
    words = ("sweep.rule=threshold", "sweep.quick_seeds=1", "sweep.medium_seeds=1")
    assert run(DROPPED, "sweep=staged", *words, "sweep.controls=false", "-m") == 0
    assert "sweep.rule=threshold is the earlier protocol" in run.out


def test_plain_sweeps_stay_plain(run: Command) -> None:
    assert run("fs=scalar_l10", "-m") == 0
    assert not (run.root / "default" / "plan.json").exists()
    assert run.train.started == ["no_fs s0", "scalar_l10 s0"]


@pytest.mark.parametrize("word", ["sweep=plain", "sweep=staged"])
def test_changes_against_an_earlier_sweep_come_first(
    run: Command, train: ScoredTraining, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    from fseed.compose import plan_changes

    given: list[tuple[list[str], Path]] = []

    def note(runs: list[PlannedRun], folder: Path) -> None:
        given.append(([one.arm for one in runs], folder))
        print("what changes")

    for module in ("sweep", "staged"):
        monkeypatch.setattr(f"fseed.compose.{module}.print_plan_changes", note)
    assert plan_changes.print_plan_changes is not note
    words = ("fs=raw_l10", word, "sweep.controls=false", "sweep.dry_run=true", "-m")
    assert run(*words, "sweep.diff_against=old") == 0
    assert given == [(["no_fs", "raw_l10"], Path("old"))]
    assert run.out.startswith("what changes")


def test_a_dry_run_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from fseed.run import main; "
        "main(['fs=raw_l10', 'sweep=staged', 'sweep.dry_run=true', 'sweep.controls=false', '-m']); "
        "print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "False"
