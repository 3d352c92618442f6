"""Signals at random moments to the sweep and to its workers: what comes out in the end is the same.

Each campaign calls the same command again and again; every call, or a worker of it, gets a signal
at a random moment. The moments and victims come from a seeded generator.
"""

import itertools
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from fseed.records import read_run
from fseed.training.run_log import RunLog
from fseed.training.runner import train_run
from tests.faults.forks import Command
from tests.faults.sweeps import NUM_RUNS, WORDS, digits, digits_of, run_dirs, start_fresh, starts
from tests.growing_logs import count_rows
from tests.training.build import plan, tiny_config

SLOTS = ("launcher=slots", "launcher.slots=2", "launcher.grace_seconds=10")
LAUNCHERS = {
    "sequential": ((), 22),
    "slots, fresh workers": (SLOTS, 20),
    "slots, resident workers": ((*SLOTS, "launcher.reuse=true"), 20),
}
DEADLY = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SIGNALS = (*DEADLY, signal.SIGSEGV)
# of a run whose worker was hit, more often than it is tried again or by what is not tried again
REASON = re.compile("the process of the run (was ended by signal|left with exit code)")
MAX_CALLS = 12  # to finish a sweep that nobody kills any more


@dataclass
class Campaign:
    """Sweeps that are called until they are done, and the signals that they get on their way."""

    folder: Path
    words: tuple[str, ...]
    expected: dict[str, dict[str, Any]]
    random: random.Random
    seconds: float  # of an undisturbed sweep
    num_sweeps: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    num_starts: int = 0
    results: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def num_kills(self) -> int:
        return self.signals.total()

    def sweep_under_fire(self, *, until: int) -> None:
        """Call one new sweep until it is done; signals come as long as fewer than ``until`` did."""
        root = self.folder / f"sweep{self.num_sweeps}"
        self.num_sweeps += 1
        before = self.num_kills
        for call in itertools.count():
            assert call < MAX_CALLS + self.num_kills - before
            command = Command(root, *self.words)
            while self.num_kills < until and self.strike(command, root):
                pass
            code = command.end()
            self.look(root)
            if code == 0 and len(self.finished(root)) == NUM_RUNS:
                break
        assert digits(root) == self.expected
        self.num_starts += sum(len(starts(folder)) for folder in run_dirs(root))
        again = Command(root, *self.words)
        assert again.end() == 0, again.told
        assert f"{NUM_RUNS} runs: {NUM_RUNS} finished" in again.told
        self.look(root)

    def strike(self, command: Command, root: Path) -> bool:
        """Send one signal after a random time; False when the command is not there any more."""
        if command.wait(self.random.uniform(0.05, self.seconds)) is not None:
            return False
        victims = [command.pid, *command.workers()]
        victim = self.random.choice(victims)
        number = self.random.choice(SIGNALS)
        before = phase(root)
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            return True
        who = "the sweep" if victim == command.pid else "a worker"
        self.signals[f"{number.name} to {who}"] += 1
        self.phases[before] += 1
        if victim == command.pid:
            command.end()
            self.look(root)
        return victim != command.pid

    def look(self, root: Path) -> None:
        """Every run is readable at any time, and no result is ever made twice."""
        for folder in run_dirs(root):
            # workers of a killed sweep may still write
            record = read_run(folder)
            assert record.status != "unreadable", record.reason
            if record.status == "failed":
                assert REASON.search(str(record.reason)), record.reason
        for path, mark in self.finished(root).items():
            assert self.results.setdefault(path, mark) == mark, f"{path} was made twice"

    def finished(self, root: Path) -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in root.glob("*/*/*/*/*/result.json")}
        return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def phase(root: Path) -> str:
    """Say in a word or two what the sweep was at, from what lies on disk."""
    folders = run_dirs(root)
    open_runs = [path for path in folders if not (path / "result.json").exists()]
    if not open_runs:
        return "between runs" if folders else "before the first run"
    if any((path / "checkpoint.ckpt").exists() for path in open_runs):
        return "behind a checkpoint"
    return "before a checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_kills_at_random_moments(
    tmp_path: Path, undisturbed: dict[str, Any], launcher: str, told: Any
) -> None:
    words, num_kills = LAUNCHERS[launcher]
    Command(tmp_path / "warm", "sweep.dry_run=true").end()  # code is loaded once
    begun = time.monotonic()
    assert Command(tmp_path / "first", *words).end() == 0
    seconds = time.monotonic() - begun
    generator = random.Random(launcher)
    campaign = Campaign(tmp_path, words, undisturbed, generator, seconds)
    while campaign.num_kills < num_kills:
        campaign.sweep_under_fire(until=num_kills)
    signals, phases = (
        ", ".join(f"{number} {name}" for name, number in counts.most_common())
        for counts in (campaign.signals, campaign.phases)
    )
    told(
        f"{campaign.num_kills} of {num_kills} resumed bit-equal ({signals}; {phases}), "
        f"{campaign.num_sweeps} sweeps, {campaign.num_starts} starts"
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), (*SLOTS, "launcher.reuse=true")], ids=["one", "slots"])
def test_kills_of_real_processes(
    tmp_path: Path, undisturbed: dict[str, Any], words: tuple[str, ...], told: Any
) -> None:
    """The same with processes that were not forked: behind the first rows, all of them at once."""
    for goal in (2, NUM_RUNS * 5):
        process = start_fresh(tmp_path, *words)
        try:
            wait_for_rows(tmp_path, goal, process)
        finally:
            workers = [child.pid for child in psutil.Process(process.pid).children()]
            for victim in (process.pid, *workers):
                os.kill(victim, signal.SIGKILL)
            process.communicate()
    process = start_fresh(tmp_path, *words)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert digits(tmp_path) == undisturbed
    told("2 of 2 resumed bit-equal")


def wait_for_rows(root: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while count_rows(root) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("step", [1, 3])
def test_a_killed_run_continues_bit_equal(tmp_path: Path, step: int) -> None:
    """The quick one: a real SIGKILL to a forked training, before and behind a checkpoint."""
    config = tiny_config(budget__checkpoint_every_steps=2)
    whole, killed = (plan(config, tmp_path / name) for name in ("whole", "killed"))
    assert train_run(whole).status == "finished"
    process = os.fork()
    if process == 0:
        die_behind(step)
        train_run(killed)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert read_run(killed.run_dir).status == "unfinished"
    assert train_run(killed).status == "finished"
    assert digits_of(killed.run_dir) == digits_of(whole.run_dir)
    assert [start["from_step"] for start in starts(killed.run_dir)] == [0, step // 2 * 2]


def die_behind(step: int) -> None:
    """Let this process get a SIGKILL when the row of ``step`` is on disk."""
    add_row = RunLog.add_row

    def add_and_die(self: RunLog, row: dict[str, Any]) -> None:
        add_row(self, row)
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    RunLog.add_row = add_and_die


def test_the_sweep_of_the_campaigns_has_pairs() -> None:
    assert {"seed=0,1", "fs=scalar_l10"} <= set(WORDS)
