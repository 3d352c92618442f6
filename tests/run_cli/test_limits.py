"""Disk and time at the start of a command: told in one line, refused before anything is written."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fseed.sweep import needs
from tests.run_cli.command import Command

SWEEP = ("-m", "fs=scalar_l10", "budget.steps=2", "data.num_train=32", "data.num_validation=4")


@pytest.fixture
def small_disk(monkeypatch):
    found = SimpleNamespace(f_bavail=1000, f_frsize=4096)
    monkeypatch.setattr(needs.os, "statvfs", lambda place: found)


def test_a_dry_run_tells_disk_and_time(run: Command) -> None:
    assert run(*SWEEP, "sweep.dry_run=true") == 0
    assert "needs about" in run.out
    assert "time unknown: 2 of 2 runs are like none before" in run.out


@pytest.mark.parametrize("words", [SWEEP, (*SWEEP, "sweep=staged"), SWEEP[1:]])
def test_a_small_disk_is_refused_before_anything_is_written(
    run: Command, small_disk, words
) -> None:
    assert run(*words) == 2
    assert "of disk, 3.9 MiB are free at" in run.err
    assert not run.root.exists()


@pytest.mark.parametrize("words", [SWEEP, (*SWEEP, "sweep=staged"), SWEEP[1:]])
def test_a_dry_run_only_tells_of_a_small_disk(run: Command, small_disk, words) -> None:
    assert run(*words, "sweep.dry_run=true") == 0
    assert "3.9 MiB free" in run.out


@pytest.mark.parametrize(("words", "hours"), [((), "2.0 h"), (("sweep=staged",), "6.0 h")])
def test_what_is_known_to_take_too_long_is_refused(run: Command, monkeypatch, words, hours) -> None:
    estimates = "fseed.sweep.staged.estimates"
    monkeypatch.setattr(f"{estimates}._newest", lambda planned, root: [Path("result.json")])
    monkeypatch.setattr(f"{estimates}._seconds_like", lambda planned, path: 3600.0)
    assert run(*SWEEP, *words, "sweep.max_hours=1.5") == 2
    assert f"takes about {hours} (median of 1 earlier runs" in run.err
    assert "sweep.max_hours=1.5" in run.err
    assert not run.root.exists()
    assert run(*SWEEP, *words, "sweep.max_hours=7", "sweep.dry_run=true") == 0


def test_finished_runs_need_nothing(run: Command) -> None:
    assert run(*SWEEP) == 0
    assert run(*SWEEP, "sweep.dry_run=true") == 0
    assert "needs about" not in run.out
