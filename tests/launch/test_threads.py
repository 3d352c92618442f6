import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.launch import threads
from fseed.launch.threads import count_cores, recorded_threads, thread_variables
from fseed.launch.train import with_threads
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import plan_run
from tests.configs import composer


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[PlannedRun]:
    """A baseline, its arm, and a run of another seed."""
    monkeypatch.setattr(threads, "count_cores", lambda: 8)
    words = [["fs=no_fs"], ["fs=scalar_l10"], ["fs=scalar_l10", "seed=1"]]
    points = [composer().compose([*each, f"output.root={tmp_path}"]) for each in words]
    return [plan_run(point).run for point in points]


def record(run: PlannedRun, *attempts: dict[str, object]) -> None:
    run.run_dir.mkdir(parents=True)
    content = {"pair_key": run.pair_key, "attempts": [{"device": each} for each in attempts]}
    (run.run_dir / "provenance.json").write_text(json.dumps(content))


def cpu(number: int) -> dict[str, object]:
    return {"kind": "cpu", "threads": number}


def test_a_run_goes_on_with_the_threads_of_its_first_start(runs: list[PlannedRun]) -> None:
    record(runs[0], cpu(2), cpu(4))
    assert recorded_threads(runs[0]) == 2
    assert with_threads(runs[0]).config.trainer.num_threads == 2


def test_the_other_run_of_a_pair_takes_them_too(runs: list[PlannedRun]) -> None:
    record(runs[0], cpu(2))
    assert [recorded_threads(run) for run in runs] == [2, 2, None]
    assert with_threads(runs[2]) is runs[2]


def test_what_is_asked_for_wins(runs: list[PlannedRun]) -> None:
    record(runs[0], cpu(2))
    config = runs[0].config
    asked = replace(runs[0], config=replace(config, trainer=replace(config.trainer, num_threads=1)))
    assert with_threads(asked).config.trainer.num_threads == 1


@pytest.mark.parametrize("device", [{"kind": "gpu", "name": "H100"}, cpu(64)])
def test_a_gpu_and_a_larger_machine_say_nothing(
    runs: list[PlannedRun], device: dict[str, object]
) -> None:
    record(runs[0], device)
    assert recorded_threads(runs[0]) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pair_key": 3}'])
def test_a_damaged_record_says_nothing(runs: list[PlannedRun], text: str) -> None:
    record(runs[0], cpu(2))
    (runs[0].run_dir / "provenance.json").write_text(text)
    assert recorded_threads(runs[0]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", 4), ("250000 100000", 3), ("50000 100000", 1), ("900000 100000", 4), ("", 4)],
)
def test_cores_within_the_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    (tmp_path / "cpu.max").write_text(text)
    assert count_cores(quota_file=tmp_path / "cpu.max") == expected
    assert count_cores(quota_file=tmp_path / "none") == 4


def test_the_environment_names_every_library() -> None:
    assert thread_variables(3)["OMP_NUM_THREADS"] == "3" == thread_variables(3)["MKL_NUM_THREADS"]
