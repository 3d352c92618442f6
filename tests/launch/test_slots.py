from dataclasses import replace
from pathlib import Path

import pytest

from fseed.config.schema import Accelerator, LauncherConfig
from fseed.errors import UserError
from fseed.launch.gpus import find_gpus, parse_listing, split_visible
from fseed.launch.job import Job
from fseed.launch.slots import plan_slots
from tests.launch.jobs import make_jobs


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    return make_jobs(tmp_path, *["fine"] * 9)


def with_trainer(jobs: list[Job], **values: object) -> list[Job]:
    return [
        replace(job, run=replace(job.run, config=replace(
            job.run.config, trainer=replace(job.run.config.trainer, **values)
        )))  # type: ignore[arg-type]
        for job in jobs
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "slots", "expected"),
    [
        (None, None, (4, 1)),  # nothing said: a core each
        (None, 2, (2, 2)),
        (None, 8, (8, 1)),
        (2, None, (2, 2)),
        (2, 4, (4, 2)),
        (8, None, (1, 8)),
    ],
)
def test_cpu_slots(
    jobs: list[Job], asked: int | None, slots: int | None, expected: tuple[int, int]
) -> None:
    plan = plan_slots(with_trainer(jobs, num_threads=asked), LauncherConfig(slots=slots), cores=4)
    assert (len(plan.slots), plan.slots[0].threads) == expected
    assert "CUDA_VISIBLE_DEVICES" not in plan.slots[0].environment()


@pytest.mark.parametrize(
    ("asked", "slots", "expected"),
    [(None, None, (2, 2)), (None, 1, (1, 4)), (None, 4, (4, 2)), (2, None, (1, 4)), (4, 2, (2, 8))],
)
def test_cpu_slots_hold_every_device_of_a_run(
    jobs: list[Job], asked: int | None, slots: int | None, expected: tuple[int, int]
) -> None:
    shared = with_trainer(jobs, num_threads=asked, devices=2)
    plan = plan_slots(shared, LauncherConfig(slots=slots), cores=4)
    assert (len(plan.slots), plan.slots[0].threads) == expected


def test_gpu_slots_hold_every_device_of_a_run(jobs: list[Job]) -> None:
    shared = with_trainer(jobs, accelerator=Accelerator.gpu, devices=2)
    plan = plan_slots(shared, LauncherConfig(), cores=8, gpus=["0", "1", "2", "GPU-d", "4"])
    assert [slot.gpus for slot in plan.slots] == [("0", "1"), ("2", "GPU-d")]
    with pytest.raises(UserError, match=r"devices=2, but only 1 GPU to use .* lower trainer"):
        plan_slots(shared, LauncherConfig(), cores=8, gpus=["0"])


def test_no_more_slots_than_runs(jobs: list[Job]) -> None:
    assert len(plan_slots(jobs[:3], LauncherConfig(), cores=64).slots) == 3


@pytest.mark.parametrize(
    ("options", "measured", "expected"),
    [
        ({}, None, ["0", "GPU-b"]),
        ({}, 2, ["0", "GPU-b", "0", "GPU-b"]),
        ({"runs_per_gpu": 3}, 2, ["0", "GPU-b"] * 3),
        ({"slots": 3}, None, ["0", "GPU-b", "0"]),
        ({"slots": 1}, 2, ["0"]),
        ({"slots": 3, "runs_per_gpu": 1}, None, ["0", "GPU-b"]),
    ],
)
def test_gpu_slots_spread_before_they_pack(
    jobs: list[Job], options: dict[str, int], measured: int | None, expected: list[str]
) -> None:
    plan = plan_slots(
        with_trainer(jobs, accelerator=Accelerator.gpu),
        LauncherConfig(**options),  # type: ignore[arg-type]
        runs_per_gpu=measured,
        cores=8,
        gpus=["0", "GPU-b"],
    )
    found = [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in plan.slots]
    assert found == expected
    assert plan.slots[0].threads == 8 // len(expected)


def test_what_was_not_measured_is_said(jobs: list[Job]) -> None:
    on_gpu = with_trainer(jobs, accelerator=Accelerator.gpu)
    plan = plan_slots(on_gpu, LauncherConfig(), cores=8, gpus=["0"])
    assert "one run per GPU: nothing was measured" in plan.note


def test_visible_devices_are_handed_on_as_written() -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-8a3c ,MIG-7f"}) == ["3", "GPU-8a3c", "MIG-7f"]
    assert split_visible("1,1") == ["1"]
    assert split_visible("0,-1,2") == ["0"]
    for nothing in ("", "-1", "NoDevFiles"):
        with pytest.raises(UserError, match="allows none"):
            find_gpus({"CUDA_VISIBLE_DEVICES": nothing})


def test_the_parts_of_a_divided_gpu_stand_for_it() -> None:
    listing = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-1111)
  MIG 3g.40gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb)
"""
    assert parse_listing(listing.splitlines()) == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
    assert parse_listing(["No devices were found"]) == []
