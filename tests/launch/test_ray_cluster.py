"""Real trainings on a real Ray: nodes that die, runs that are stopped, folders that are sent."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from fseed.config.schema import LauncherConfig
from fseed.launch.job import Job
from fseed.launch.ray_pool import launch_jobs
from fseed.sweep.lock import find_lock_holder
from tests.launch.jobs import wait_until
from tests.launch.real_runs import WORDS, digits, make_run, num_attempts, wait_for_step

pytestmark = [
    pytest.mark.slow,
    # Ray keeps the files and processes of its nodes open until the interpreter ends
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SAVING = (*WORDS, "budget.checkpoint_every_steps=2")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each, and a head that runs nothing."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def node_of(cluster: Any, job: Job) -> Any:
    """Return the node whose worker holds a run."""
    holder = find_lock_holder(job.run.run_dir)
    assert holder is not None
    above = {process.pid for process in psutil.Process(holder).parents()}
    for node in cluster.worker_nodes:
        if {each.process.pid for each in node.all_processes["raylet"]} & above:
            return node
    raise AssertionError("no node has it")


def test_a_run_survives_the_loss_of_its_node(tmp_path: Path, cluster: Any) -> None:
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    once, twice = (make_run(tmp_path / name, words=SAVING) for name in ("once", "twice"))

    def lose_node() -> None:
        wait_for_step(twice, 5)
        cluster.remove_node(node_of(cluster, twice), allow_graceful=False)

    thread = threading.Thread(target=lose_node)
    thread.start()
    outcomes = launch_jobs([once, twice], LauncherConfig(ray_address=cluster.address))
    thread.join()
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert (num_attempts(once), num_attempts(twice)) == (1, 2)
    assert digits(once.run.run_dir) == digits(twice.run.run_dir)


def test_a_stopped_run_comes_home_and_continues(tmp_path: Path) -> None:
    """Ctrl-C on a cluster of this machine, folders sent; the second command finishes the run."""
    pytest.importorskip("ray")
    once, twice = (make_run(tmp_path / name, seed=7) for name in ("once", "twice"))
    options = LauncherConfig(slots=1, shared_files=False)

    def press() -> None:
        wait_until(lambda: find_private(twice) is not None, seconds=120.0)
        private = find_private(twice)
        assert private is not None
        wait_for_step(replace(twice, run=replace(twice.run, run_dir=private)), 5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        launch_jobs([twice], options)
    thread.join()
    assert (twice.run.run_dir / "checkpoint.ckpt").exists()
    outcomes = launch_jobs([twice, once], options)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert (num_attempts(once), num_attempts(twice)) == (1, 2)
    assert digits(once.run.run_dir) == digits(twice.run.run_dir)
    assert find_private(twice) is None


def find_private(job: Job) -> Path | None:
    """Return the folder of a worker's own where a run trains."""
    name = job.run.run_dir.name
    base = Path(tempfile.gettempdir())
    return next((path for path in base.glob(f"fseed-run-*/*/*/*/*/{name}")), None)
