"""Memory of a process and of those below it."""

import os
import subprocess
import sys

from fseed.sandbox import processes
from fseed.sandbox.processes import open_first_process, resident_bytes

CHILD = "x = bytearray(40 * 2**20); print(flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def start():
    line = [sys.executable, "-c", PARENT]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


def test_memory_of_a_child_counts():
    with start() as process:
        assert 40 * 2**20 < resident_bytes(process.pid) < 100 * 2**20
        process.communicate(b"\n")


def test_a_thread_that_vanishes_hides_nothing_else(monkeypatch):
    listed = processes._threads
    monkeypatch.setattr(processes, "_threads", lambda folder: [folder / "task/0", *listed(folder)])
    with start() as process:
        assert resident_bytes(process.pid) > 40 * 2**20
        process.communicate(b"\n")


def test_a_process_that_has_ended_holds_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert resident_bytes(process.pid) == 0


def test_without_news_of_a_first_process_there_is_none():
    receive, send = os.pipe()
    os.write(send, b'{"child-pid":')
    assert open_first_process(receive, seconds=0.01) is None
    os.close(send)
    assert open_first_process(receive, seconds=5) is None
    os.close(receive)
