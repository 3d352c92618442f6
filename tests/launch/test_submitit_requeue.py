"""A training that submitit preempts and requeues ends with the digits of an undisturbed one."""

import threading
from pathlib import Path

import psutil
import pytest
import submitit

from fseed.config.schema import LauncherConfig
from fseed.launch.submitit_job import preemption_signal
from fseed.launch.submitit_pool import launch_jobs
from tests.launch.real_runs import digits, make_run, num_attempts, wait_for_step


@pytest.mark.slow
def test_a_requeued_run_is_bit_equal_to_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, preempted = make_run(tmp_path / "once"), make_run(tmp_path / "twice")
    folder = tmp_path / "submitted"
    executor = submitit.AutoExecutor(folder=folder / "%j", cluster="local")
    executor.update_parameters(timeout_min=1000)

    def preempt() -> None:
        wait_for_step(preempted, 5)
        # as LocalJob._interrupt does, but to the run and not to submitit's process above it
        (process,) = [p for p in psutil.process_iter(["cmdline"]) if is_run(p, folder)]
        process.send_signal(preemption_signal())

    thread = threading.Thread(target=preempt)
    thread.start()
    outcomes = launch_jobs([undisturbed, preempted], LauncherConfig(slots=1), executor=executor)
    thread.join()
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert (num_attempts(undisturbed), num_attempts(preempted)) == (1, 2)
    log = "".join(path.read_text() for path in folder.rglob("*_log.out"))
    assert log.count("Requeued job") == 1
    assert digits(undisturbed.run.run_dir) == digits(preempted.run.run_dir)


def is_run(process: psutil.Process, folder: Path) -> bool:
    words = process.info["cmdline"] or []
    return "submitit.core._submit" in words and str(folder) in " ".join(words)
