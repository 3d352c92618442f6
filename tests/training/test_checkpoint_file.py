"""Checkpoints on disk: sealed, read back, two at most, and what a full disk leaves."""

import os
from types import SimpleNamespace

import pytest
import torch

from fseed.records import read_run
from fseed.training import checkpoint_file
from fseed.training.checkpoint_file import (
    CHECKPOINT_FILE,
    PREVIOUS_FILE,
    SEAL_BYTES,
    DamagedCheckpoint,
    SealedCheckpointIO,
    Start,
    check_seal,
    find_start,
    remove_checkpoints,
    save_checkpoint,
    seal,
)
from fseed.training.runner import train_run
from tests.training.build import plan, tiny_config
from tests.training.test_runner import Killed, predictions, stable_rows


class FakeTrainer:
    """Save a small content as Lightning would."""

    is_global_zero = True

    def __init__(self, step: int) -> None:
        self.content = {"global_step": step, "weights": torch.arange(5000.0) + step}

    def save_checkpoint(self, path) -> None:
        SealedCheckpointIO().save_checkpoint(self.content, path)


def save(folder, *steps):
    for step in steps:
        save_checkpoint(FakeTrainer(step), folder / CHECKPOINT_FILE)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_sealed_file_is_read_by_torch_as_if_it_had_no_seal(tmp_path):
    save(tmp_path, 3)
    path = tmp_path / CHECKPOINT_FILE
    for mmap in (False, True):
        content = torch.load(path, weights_only=True, mmap=mmap)
        assert torch.equal(content["weights"], torch.arange(5000.0) + 3)
    assert torch.equal(
        SealedCheckpointIO().load_checkpoint(path)["weights"][:1], torch.tensor([3.0])
    )


def test_two_files_at_most_and_the_newer_one_counts(tmp_path):
    assert find_start(tmp_path) == Start(None, -1)
    save(tmp_path, 1)
    assert names(tmp_path) == [CHECKPOINT_FILE]
    save(tmp_path, 2, 3)
    assert names(tmp_path) == [CHECKPOINT_FILE, PREVIOUS_FILE]
    assert find_start(tmp_path) == Start(tmp_path / CHECKPOINT_FILE, 3)


@pytest.mark.parametrize("place", [0, 100, -SEAL_BYTES - 200, -SEAL_BYTES, -1])
def test_a_changed_byte_anywhere_is_found_and_the_one_before_is_taken(tmp_path, place):
    save(tmp_path, 1, 2)
    flip(tmp_path / CHECKPOINT_FILE, place)
    start = find_start(tmp_path)
    assert (start.path, start.step, len(start.damaged)) == (tmp_path / PREVIOUS_FILE, 1, 1)
    assert names(tmp_path) == [f"{CHECKPOINT_FILE}.damaged", PREVIOUS_FILE]


@pytest.mark.parametrize("kept", [0, 1, SEAL_BYTES, 5000, -1])
def test_a_file_that_ends_early_is_found(tmp_path, kept):
    save(tmp_path, 2)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:kept])
    assert find_start(tmp_path) == Start(
        None, -1, (f"{CHECKPOINT_FILE} was damaged (its end is missing) and is kept as "
                   f"{CHECKPOINT_FILE}.damaged",)
    )  # fmt: skip


def test_content_that_is_no_checkpoint_is_damage_even_with_a_seal(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"PK\x03\x04 something else")
    seal(tmp_path / CHECKPOINT_FILE)
    check_seal(tmp_path / CHECKPOINT_FILE)
    assert "when read" in find_start(tmp_path).damaged[0]


def test_a_file_of_another_writer_gets_its_seal_once(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"global_step": 4}, path)
    with pytest.raises(DamagedCheckpoint):
        check_seal(path)
    seal(path)
    size = path.stat().st_size
    seal(path)
    check_seal(path)
    assert path.stat().st_size == size


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_between_the_renames_leaves_a_whole_checkpoint(tmp_path, monkeypatch, renames):
    save(tmp_path, 1, 2)
    done, original = [], os.replace

    def replace(source, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        original(source, target)

    monkeypatch.setattr(checkpoint_file.os, "replace", replace)
    with pytest.raises(Killed):
        save(tmp_path, 3)
    monkeypatch.undo()
    assert find_start(tmp_path).step == 2


def test_what_was_written_wrongly_never_takes_the_place_of_a_good_one(tmp_path, monkeypatch):
    save(tmp_path, 1)
    original = checkpoint_file.seal

    def damage(path):
        flip(path, 1000)
        original(path)

    monkeypatch.setattr(checkpoint_file, "seal", damage)
    with pytest.raises(DamagedCheckpoint):
        save(tmp_path, 2)
    assert names(tmp_path) == [CHECKPOINT_FILE]
    assert find_start(tmp_path).step == 1


def test_other_processes_of_a_run_write_nothing(tmp_path):
    save(tmp_path, 1, 2)
    trainer = FakeTrainer(3)
    trainer.is_global_zero, trainer.save_checkpoint = False, lambda path: None
    save_checkpoint(trainer, tmp_path / CHECKPOINT_FILE)
    assert find_start(tmp_path).step == 2
    assert names(tmp_path) == [CHECKPOINT_FILE, PREVIOUS_FILE]


@pytest.mark.parametrize(("keep_last", "left"), [(True, [CHECKPOINT_FILE]), (False, [])])
def test_a_finished_run_keeps_one_checkpoint_or_none(tmp_path, keep_last, left):
    save(tmp_path, 1, 2)
    remove_checkpoints(tmp_path, keep_last=keep_last)
    assert names(tmp_path) == left


def train(run_dir, **values):
    values = {"budget__checkpoint_every_steps": 2, "budget__eval_every_steps": 2} | values
    return train_run(plan(tiny_config(**values), run_dir))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder).status == "finished"
    return SimpleNamespace(rows=stable_rows(folder), predictions=predictions(folder))


def kill_after_the_save_of(step, run_dir, monkeypatch):
    original = checkpoint_file.save_checkpoint

    def save_and_die(trainer, path):
        original(trainer, path)
        if trainer.global_step == step:
            raise Killed

    monkeypatch.setattr("fseed.training.callbacks.save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        train(run_dir)
    monkeypatch.undo()


@pytest.mark.parametrize(("damaged", "begins"), [(1, 2), (2, 0)])
def test_a_run_with_damaged_checkpoints_ends_as_if_undisturbed(
    tmp_path, monkeypatch, capsys, whole, damaged, begins
):
    kill_after_the_save_of(4, tmp_path, monkeypatch)
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE)[:damaged]:
        flip(tmp_path / name, 2000)
    assert train(tmp_path).status == "finished"
    told = f"the run continues from step {begins}" if begins > 0 else "the run starts anew"
    assert told in capsys.readouterr().err
    assert stable_rows(tmp_path) == whole.rows
    assert predictions(tmp_path) == whole.predictions
    record = read_run(tmp_path)
    assert record.provenance["attempts"][1]["from_step"] == begins
    assert [note for note in record.result["notes"] if "was damaged" in note]
