"""Runs of one process: the same digits as in processes of their own, and no trace of each other."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fseed.config.schema import LauncherConfig
from fseed.launch import resident
from fseed.launch.job import Job
from fseed.launch.pool import launch_jobs
from fseed.launch.resident import Resident
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.records import read_metrics, read_run
from fseed.sweep.plan import plan_run
from fseed.sweep.prepare import Preparer
from fseed.worker_facts import telling, worker_facts
from tests.configs import composer
from tests.launch.jobs import Launch, cpu_plan, log_of, make_jobs

SIZES = (
    *("budget.steps=2", "budget.batch_size=4", "data.num_train=8", "data.num_validation=4"),
    *("trainer.progress=false", "trainer.num_threads=1"),
)
# an order in which what one run leaves behind would move the next: other seeds, modes, controls,
# sizes, tasks, precisions, and a run that fails in the middle of its first step
RUNS = (
    "task=rightcopy fs=no_fs seed=0",
    "task=rightcopy fs=raw_l10 seed=1",
    "task=rightcopy fs=raw_l10 seed=0 control=shuffled_state",
    "task=arc fs=raw_l10 seed=0 budget.generate=false",
    "task=rightcopy fs=raw_l10 seed=0 optim.lr=1e30",
    "task=rightcopy fs=raw_l10 seed=0 trainer.micro_batch_size=2",
    "task=hotpot fs=raw_l10 seed=2 control=same_layer",
    "task=hotpot fs=no_fs seed=2 trainer.num_threads=2",
    "task=rightcopy fs=raw_l10 seed=1 control=learned_state",
    "task=rightcopy fs=raw_l10 seed=0",
)
VOLATILE = {"seconds", "tokens_per_second", "memory_gib"}


def plan_jobs(root: Path) -> list[Job]:
    compose, preparer = composer(), Preparer()
    points = [compose.compose([*SIZES, *words.split(), f"output.root={root}"]) for words in RUNS]
    runs = [plan_run(point, preparer=preparer).run for point in points]
    return [Job(run, f"{index + 1}/{len(runs)}") for index, run in enumerate(runs)]


def launch(root: Path, *, reuse: bool) -> tuple[list[Job], list[RunOutcome]]:
    jobs = plan_jobs(root)
    options = LauncherConfig(reuse=reuse, retries=0)
    # processes of their own may run side by side
    return jobs, launch_jobs(jobs, options, plan=cpu_plan(1 if reuse else 2))


def digits(job: Job) -> tuple[object, ...]:
    """Return every row and prediction of a run, without times and memory."""
    folder = job.run.run_dir
    rows, torn = read_metrics(folder / "metrics.jsonl")
    assert torn == []
    kept = [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
    record = read_run(folder)
    result = record.result or {}
    return kept, record.predictions().to_pylist(), [result.get(k) for k in ("gates", "notes")]


def told_by_worker(job: Job) -> dict[str, Any]:
    content = json.loads((job.run.run_dir / "provenance.json").read_text("utf-8"))
    return content["attempts"][-1]["worker"]


@pytest.mark.slow
def test_resident_runs_have_the_digits_of_fresh_processes(tmp_path: Path) -> None:
    fresh, fresh_outcomes = launch(tmp_path / "fresh", reuse=False)
    kept, kept_outcomes = launch(tmp_path / "kept", reuse=True)
    statuses = [outcome.status for outcome in fresh_outcomes]
    assert statuses == [outcome.status for outcome in kept_outcomes]
    assert statuses.count("failed") == 1
    for one, other in zip(fresh, kept, strict=True):
        assert digits(one) == digits(other), one.title
    assert len({str(digits(job)) for job in fresh}) == len(RUNS)
    told = [told_by_worker(job) for job in kept]
    # the run that failed has ended its process, none of the others has
    assert [each["jobs_before"] for each in told] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    states = {each["state"] for each in told} | {told_by_worker(job)["state"] for job in fresh}
    assert len(states) == 1
    assert [told_by_worker(job)["resident"] for job in fresh] == [False] * len(RUNS)


def quiet(run: PlannedRun, position: str) -> RunOutcome:
    return RunOutcome("finished", str(worker_facts()), 0)


def changes_torch(run: PlannedRun, position: str) -> RunOutcome:
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.manual_seed(run.config.seed + 17)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    return quiet(run, position)


def leaves_file_open(run: PlannedRun, position: str) -> RunOutcome:
    leaked.append((run.run_dir.parent / "weights").open("wb"))
    return quiet(run, position)


leaked: list[Any] = []


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    planned = make_jobs(tmp_path, "fine")[0].run
    planned.run_dir.mkdir(parents=True)
    return planned


def test_every_run_is_told_the_same_state(run: PlannedRun) -> None:
    guarded = Resident(changes_torch)
    first, second, third = (guarded(run, "1/1").message for _ in range(3))
    assert not guarded.leaves
    assert "'jobs_before': 0" in first
    assert second.replace("'jobs_before': 1", "") == third.replace("'jobs_before': 2", "")
    assert first.replace("'jobs_before': 0", "") == second.replace("'jobs_before': 1", "")
    assert worker_facts() is None


def test_what_cannot_be_put_back_ends_the_worker(
    run: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    guarded = Resident(leaves_file_open)
    try:
        guarded(run, "1/1")
    finally:
        leaked.pop().close()
    assert guarded.leaves == f"the run has changed open files: +{run.run_dir.parent}/weights"
    assert f"this process takes no other run: {guarded.leaves}" in capsys.readouterr().err


def raises(run: PlannedRun, position: str) -> RunOutcome:
    raise RuntimeError("out of luck")


def fails(run: PlannedRun, position: str) -> RunOutcome:
    return RunOutcome("failed", "out of luck", 1)


def test_a_run_that_failed_ends_the_worker(run: PlannedRun) -> None:
    guarded = Resident(raises)
    with pytest.raises(RuntimeError):
        guarded(run, "1/1")
    assert guarded.leaves == "the run did not finish"
    guarded = Resident(fails)
    guarded(run, "1/1")
    assert guarded.leaves == "the run did not finish"


def test_a_worker_ends_after_its_share_or_when_it_has_grown(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([1.0, 2.5, 3.5])
    monkeypatch.setattr(resident, "resident_gib", lambda: next(sizes))
    guarded = Resident(quiet)
    found = [(guarded(run, "1/1"), guarded.leaves)[1] for _ in range(3)]
    assert found == ["", "", "it has grown by 2.5 GiB"]
    monkeypatch.setattr(resident, "MAX_RUNS", 1)
    guarded = Resident(quiet)
    guarded(run, "1/1")
    assert guarded.leaves == "it has done 1 runs"


def test_facts_end_with_the_run() -> None:
    with telling({"resident": True}):
        assert worker_facts() == {"resident": True}
    assert worker_facts() is None


def test_a_fresh_process_takes_the_run_after_a_leak(tmp_path: Path) -> None:
    """The pool hears it with the outcome, so that no run is sent to a worker that leaves."""
    jobs = make_jobs(tmp_path, "fine", "forgets_a_file", "fine", "bad_input", "fine", "fine")
    outcomes = Launch()(jobs, slots=1, reuse=True)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0, 0, 2, 0, 0]
    processes = [log_of(jobs[index]).split()[2] for index in (0, 1, 2, 4, 5)]
    assert processes[0] == processes[1] != processes[2]
    assert processes[3] == processes[4] != processes[2]
    assert "takes no other run: the run has changed open files" in log_of(jobs[1])


@pytest.mark.slow
def test_a_worker_is_quiet_at_its_end() -> None:
    """Some libraries count what nobody has collected."""
    code = "from fseed.launch.resident import preload; preload()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
