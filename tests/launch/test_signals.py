"""Ctrl-C once and twice, SIGTERM, and a launcher that is killed while its runs train."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from fseed.launch.job import Job
from fseed.records import read_run
from tests.launch.jobs import is_alive, kill_quietly, make_jobs, wait_for_pid, wait_until

SCRIPT = Path(__file__).with_name("fake_sweep.py")


class Sweep:
    """A sweep of fake runs in a process of its own."""

    def __init__(self, root: Path, *arms: str, output: int = subprocess.PIPE) -> None:
        self.jobs: list[Job] = make_jobs(root, *arms)
        command = [sys.executable, str(SCRIPT), str(root), "2", *arms]
        is_terminal = output >= 0 and os.isatty(output)
        self.process = subprocess.Popen(
            command,
            stdout=output,
            text=True,
            start_new_session=is_terminal,
            preexec_fn=take_terminal if is_terminal else None,
        )
        self.workers = [wait_for_pid(job) for job in self.jobs[:2]]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def read_until(self, words: str) -> str:
        assert self.process.stdout is not None
        text = ""
        while words not in text:
            line = self.process.stdout.readline()
            assert line, text
            text += line
        return text

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=20)
        return self.process.returncode, out


def take_terminal() -> None:
    """Let the terminal on standard output be that of this session, which hears when it closes."""
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


@pytest.fixture
def sweeps() -> Iterator[list[Sweep]]:
    started: list[Sweep] = []
    yield started
    for sweep in started:
        for process in (sweep.process.pid, *sweep.workers):
            kill_quietly(process)
        sweep.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_lets_every_run_save_and_end(
    tmp_path: Path, sweeps: list[Sweep], number: int
) -> None:
    sweep = Sweep(tmp_path, "saves", "saves", "fine")
    sweeps.append(sweep)
    sweep.send(number)
    code, out = sweep.end()
    assert code == 130
    assert "every run saves and ends; Ctrl-C again kills them" in out
    assert "2 interrupted, 1 waiting" in out
    assert all((job.run.run_dir / "saved").exists() for job in sweep.jobs[:2])
    assert not sweep.jobs[2].run.run_dir.exists()
    assert not any(is_alive(worker) for worker in sweep.workers)


@pytest.mark.parametrize("output", ["terminal", "pipe"])
def test_every_run_saves_though_nobody_reads_any_more(
    tmp_path: Path, sweeps: list[Sweep], output: str
) -> None:
    """A window that is closed; Ctrl-C that has ended ``tee`` too."""
    reader, writer = os.openpty() if output == "terminal" else os.pipe()
    sweep = Sweep(tmp_path, "saves", "saves", "fine", output=writer)
    sweeps.append(sweep)
    os.close(writer)
    os.close(reader)
    if output == "pipe":
        sweep.send(signal.SIGINT)
    sweep.end()
    assert all((job.run.run_dir / "saved").exists() for job in sweep.jobs[:2])
    assert not sweep.jobs[2].run.run_dir.exists()
    assert not any(is_alive(worker) for worker in sweep.workers)


def test_the_second_ctrl_c_kills(tmp_path: Path, sweeps: list[Sweep]) -> None:
    sweep = Sweep(tmp_path, "stubborn", "saves")
    sweeps.append(sweep)
    sweep.send(signal.SIGINT)
    sweep.read_until("Ctrl-C again")
    sweep.send(signal.SIGINT)
    code, _ = sweep.end()
    assert code == 130
    assert not any(is_alive(worker) for worker in sweep.workers)
    assert read_run(sweep.jobs[0].run.run_dir).status == "unfinished"


def test_workers_of_a_killed_launcher_save_and_end(tmp_path: Path, sweeps: list[Sweep]) -> None:
    sweep = Sweep(tmp_path, "saves", "saves")
    sweeps.append(sweep)
    os.kill(sweep.process.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(worker) for worker in sweep.workers))
    assert all((job.run.run_dir / "saved").exists() for job in sweep.jobs)
