"""How many runs share a GPU, with a driver's tool that tells what the test says."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fseed.config.schema import Accelerator, LauncherConfig
from fseed.launch import gpu_memory, packing
from fseed.launch.gpu_memory import NotMeasured, needed_gib, parse_memory, read_gpu_memory
from fseed.launch.job import Job
from fseed.launch.packing import PACKING_FILE, choose_runs_per_gpu, dearest_runs, runs_that_fit
from fseed.launch.pool import launch_jobs
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import plan_run
from tests.configs import composer
from tests.launch.jobs import FAKE_WORKER, log_of, make_jobs, plan_runs

FAKE_TOOL = """#!/bin/sh
[ "$1" = -L ] && { echo 'GPU 0: H (UUID: GPU-a)'; echo 'GPU 1: H (UUID: GPU-b)'; exit 0; }
[ "$2" = GPU-b ] && free=40960 || free=61440
echo "$*" >> "$CALLS"
echo "81920, $free, NVIDIA H100, of a test"
"""


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the fake tool first; return the file that lists what it was asked."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(FAKE_TOOL)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "calls"


def gpu_jobs(root: Path, number: int) -> list[Job]:
    return [replace(job, run=on_gpu(job.run)) for job in make_jobs(root, *["fine"] * number)]


def on_gpu(run: PlannedRun, **trainer: object) -> PlannedRun:
    changed = replace(run.config.trainer, accelerator=Accelerator.gpu, **trainer)  # type: ignore[arg-type]
    return replace(run, config=replace(run.config, trainer=changed))


class Measured:
    """Stand in for the process that measures."""

    def __init__(self, *needs: float) -> None:
        self.needs, self.asked = list(needs), []  # type: ignore[var-annotated]

    def __call__(self, run: PlannedRun, gpu: str, free_before: float) -> float:
        self.asked.append((run.arm, gpu, free_before))
        return self.needs.pop(0)


@pytest.mark.parametrize(
    ("free", "need", "cores", "expected"),
    [
        (80.0, 10.0, 64, 7),  # 4 GiB stay free
        (80.0, 38.0, 64, 2),
        (80.0, 38.1, 64, 1),
        (80.0, 10.0, 3, 3),
        (2.0, 10.0, 64, 1),  # whether it fits at all, the run itself will tell
        (80.0, 0.0, 8, 8),
    ],
)
def test_runs_that_fit(free: float, need: float, cores: int, expected: int) -> None:
    found = runs_that_fit(free_gib=free, total_gib=80.0, need_gib=need, cores=cores)
    assert found == expected


def test_a_small_gpu_keeps_half_a_gib_free() -> None:
    assert runs_that_fit(free_gib=4.0, total_gib=4.0, need_gib=1.75, cores=8) == 2
    assert runs_that_fit(free_gib=4.0, total_gib=4.0, need_gib=1.76, cores=8) == 1


def test_the_context_comes_on_top_of_the_allocator() -> None:
    # 3 of 80 GiB are gone at the end, of which the allocator keeps 2.4
    need = needed_gib(peak_reserved=9.0, reserved=2.4, free_before=80.0, free=77.0)
    assert need == pytest.approx(9.6)
    # a neighbour that has left meanwhile makes no run cheaper than its own peak
    assert needed_gib(peak_reserved=9.0, reserved=0.0, free_before=70.0, free=75.0) == 9.0


def test_what_the_driver_tells() -> None:
    memory = read_gpu_memory("GPU-a")
    assert (memory.name, memory.total_gib, memory.free_gib) == ("NVIDIA H100, of a test", 80.0, 60)
    for nothing in ("[N/A], [N/A], NVIDIA", "", "1, 2, a\n1, 2, b"):
        with pytest.raises(NotMeasured, match="nvidia-smi tells"):
            parse_memory(nothing)
    with pytest.raises(NotMeasured, match="MIG-7f"):
        read_gpu_memory("MIG-7f")


def test_the_fullest_gpu_decides_and_one_line_says_how(tmp_path: Path) -> None:
    said: list[str] = []
    jobs, measure = gpu_jobs(tmp_path, 9), Measured(10.0)
    found = choose_runs_per_gpu(jobs, LauncherConfig(), say=said.append, measure=measure, cores=64)
    assert found == 3
    assert measure.asked == [("fine", "GPU-a", 60.0)]
    (line,) = said
    assert line.startswith("packing: 3 per GPU; ")
    assert line.endswith("fine takes 10.0 GiB, 40.0 of 80.0 GiB free (measured)")


def test_cores_bound_what_memory_allows(tmp_path: Path) -> None:
    said: list[str] = []
    jobs, measure = gpu_jobs(tmp_path, 9), Measured(1.0)
    options = LauncherConfig()
    assert choose_runs_per_gpu(jobs, options, say=said.append, measure=measure, cores=5) == 2
    assert "2 CPU cores a GPU" in said[0]


def test_a_resumed_sweep_measures_nothing_again(tmp_path: Path) -> None:
    jobs, options = gpu_jobs(tmp_path, 9), LauncherConfig()
    choose_runs_per_gpu(jobs, options, say=print, measure=Measured(10.0), cores=64)
    again = choose_runs_per_gpu(jobs, options, say=print, measure=Measured(), cores=64)
    assert again == 3
    path = jobs[0].run.run_dir.parents[3] / PACKING_FILE
    assert list(json.loads(path.read_text())["needed_gib"].values()) == [10.0]
    # a file that is no use, and other code, are measured anew
    for text in ("{", '{"schema_version": 2}', '{"schema_version": 1, "needed_gib": {"a": null}}'):
        path.write_text(text)
        measure = Measured(20.0)
        assert choose_runs_per_gpu(jobs, options, say=print, measure=measure, cores=64) == 1
        assert len(measure.asked) == 1
    changed = [replace(job, run=replace(job.run, code_hash="other")) for job in jobs]
    measure = Measured(5.0)
    assert choose_runs_per_gpu(changed, options, say=print, measure=measure, cores=64) == 7


@pytest.mark.parametrize("settled", [{"runs_per_gpu": 2}, {"slots": 3}])
def test_what_is_asked_for_is_not_measured(
    tmp_path: Path, calls: Path, settled: dict[str, int]
) -> None:
    options = LauncherConfig(**settled)  # type: ignore[arg-type]
    assert choose_runs_per_gpu(gpu_jobs(tmp_path, 9), options, say=print) is None
    # as many GPUs as runs, runs on CPUs, and runs over several GPUs have nothing to share either
    assert choose_runs_per_gpu(gpu_jobs(tmp_path, 2), LauncherConfig(), say=print) is None
    assert choose_runs_per_gpu(make_jobs(tmp_path, "fine"), LauncherConfig(), say=print) is None
    wide = [replace(job, run=on_gpu(job.run, devices=2)) for job in gpu_jobs(tmp_path, 9)]
    assert choose_runs_per_gpu(wide, LauncherConfig(), say=print) is None
    assert not calls.exists()


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    def fail(run: PlannedRun, gpu: str, free_before: float) -> float:
        raise NotMeasured("the measurement failed (2): no such weights")

    said: list[str] = []
    jobs = gpu_jobs(tmp_path, 9)
    assert choose_runs_per_gpu(jobs, LauncherConfig(), say=said.append, measure=fail) == 1
    assert said == [
        "one run per GPU: the measurement failed (2): no such weights; "
        "launcher.runs_per_gpu=N packs more"
    ]


def test_the_dearest_arm_of_each_group_stands_for_it(tmp_path: Path) -> None:
    plain, other = (on_gpu(run) for run in plan_runs(tmp_path, "plain", "other"))
    seeded = plan_run(composer().compose(["fs=raw_l10", f"output.root={tmp_path}"])).run
    chain = replace(on_gpu(seeded), arm="chain")
    larger = replace(other, config=replace(
        other.config, budget=replace(other.config.budget, batch_size=64)
    ))  # fmt: skip
    assert [run.arm for run in dearest_runs([plain, chain, larger])] == ["chain", "other"]


@pytest.mark.slow
def test_the_process_that_measures_tells_why_it_cannot(tmp_path: Path) -> None:
    """Without a GPU the run is refused there, as a run would be."""
    run = gpu_jobs(tmp_path, 1)[0].run
    with pytest.raises(NotMeasured, match=r"the measurement failed \(2\): .*GPU"):
        gpu_memory.measure_need(run, "GPU-a", free_before=60.0)
    assert packing.read_known(tmp_path / PACKING_FILE) == {}


def test_runs_of_a_sweep_share_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    monkeypatch.setattr(packing, "_measure", Measured(20.0))
    monkeypatch.setattr(packing, "count_cores", lambda: 8)
    jobs = [
        replace(job, run=on_gpu(job.run)) for job in make_jobs(tmp_path, *["tells_environment"] * 3)
    ]
    text = io.StringIO()
    console = Console(file=text, width=200)
    outcomes = launch_jobs(jobs, LauncherConfig(), command=FAKE_WORKER, console=console)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    assert "packing: 2 per GPU; " in text.getvalue()
    assert "2 slots on 1 GPU" in text.getvalue()
    assert all("CUDA_VISIBLE_DEVICES=GPU-a " in log_of(job) for job in jobs)
