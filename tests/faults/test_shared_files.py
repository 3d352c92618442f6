"""Two sweeps in one folder at once, and data files that go or change while a run is open."""

from pathlib import Path
from typing import Any

import pytest

from fseed.planned_run import PlannedRun
from fseed.records import read_run
from fseed.tasks.registry import data_fingerprint
from fseed.training import data_module
from fseed.training.runner import train_run
from tests.faults.sweeps import NUM_RUNS, digits, digits_of, run_dirs, starts
from tests.faults.test_damage import Killed
from tests.tasks.task_helpers import make_rows, write_data, write_parquet
from tests.training.build import plan, tiny_config

SLOTS = ("launcher=slots", "launcher.slots=2")


@pytest.mark.slow
def test_two_sweeps_at_once_train_every_run_once(
    tmp_path: Path, sweep: Any, undisturbed: dict[str, Any], told: Any
) -> None:
    root = tmp_path / "results"
    both = [sweep(), sweep(*SLOTS)]
    assert [each.end() for each in both] == [0, 0]
    assert sweep().end() == 0
    assert digits(root) == undisturbed
    assert [len(starts(folder)) for folder in run_dirs(root)] == [1] * NUM_RUNS
    told(f"{NUM_RUNS} of {NUM_RUNS} bit-equal, {NUM_RUNS} starts")


def local_run(root: Path, folder: Path) -> PlannedRun:
    values = {"data__root": str(root), "budget__checkpoint_every_steps": 2, "budget__steps": 4}
    sizes = {"data__num_train": 8, "data__num_validation": 4}
    text = {"task__max_length_tokens": 512, "task__max_answer_tokens": 48}
    return plan(tiny_config("data=local", **values, **sizes, **text), folder)


@pytest.mark.parametrize("fault", ["removed", "changed"])
def test_data_that_is_not_there_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: Any
) -> None:
    root = write_data(tmp_path / "data")
    train_file = root / "hotpotqa" / "train.parquet"
    whole, killed = (local_run(root, tmp_path / name) for name in ("whole", "killed"))
    assert train_run(whole).status == "finished"
    with monkeypatch.context() as patch:
        patch.setattr("fseed.training.attempt.write_result", die)
        with pytest.raises(Killed):
            train_run(killed)
    # another process continues it, which has not loaded anything
    data_module._LAST_LOADED.clear()
    kept = train_file.read_bytes()
    if fault == "removed":
        train_file.unlink()
    else:
        write_parquet(train_file.parent, "train", make_rows(500, 540))
        # another plan: what is open is not continued with other data
        config = killed.config
        assert data_fingerprint(config.task, config.data) != killed.data_hash
    outcome = train_run(killed)
    assert (outcome.status, outcome.exit_code) == ("failed", 2)
    wanted = str(train_file.parent) if fault == "removed" else "the data changed"
    assert wanted in outcome.message
    failure = read_run(killed.run_dir).failure
    assert failure is not None
    assert failure["class"] == "data"
    train_file.write_bytes(kept)
    assert train_run(killed).status == "finished"
    assert digits_of(killed.run_dir) == digits_of(whole.run_dir)
    told(f"refused: {outcome.message.splitlines()[0][:60]}")


def die(*_: Any, **__: Any) -> None:
    raise Killed
