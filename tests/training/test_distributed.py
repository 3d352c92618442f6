"""Runs of several ranks against the same run on one device, by gloo on the CPU.

Bounds: a sum of gradients in another order moves a float32 number by parts of 1.2e-7 of itself. A
loss or norm is a sum of such numbers: 1e-6. A weight is about 0.1 and moves by up to lr = 1e-3 a
step, in which AdamW divides a gradient by its own size: rounding of 1e-7 of that is far below 1e-6,
but where a gradient is hardly more than rounding the division returns it enlarged: 1e-5 at most.
"""

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fseed.records import read_run
from fseed.training.callbacks import SaveCheckpoint
from tests.training.build import tiny_config
from tests.training.ranks import fork_ranks, train_forked
from tests.training.test_runner import predictions, stable_rows, train

# an uneven share for two and for three ranks, gates that learn, steps enough to see them move
FACTS = {
    "budget__batch_size": 5,
    "budget__steps": 4,
    "alpha__lr": 1e-2,
    "optim__lr": 1e-3,
    "output__save_weights": True,
}
FILL = {"task__max_answer_tokens": 16}


def values_for(overrides: tuple[str, ...]) -> dict:
    return FACTS | (FILL if "task=rightcopy" in overrides else {})


def assert_same_training(found: Path, expected: Path) -> None:
    rows, wanted = stable_rows(found), stable_rows(expected)
    assert len(rows) == len(wanted)
    for row, other in zip(rows, wanted, strict=True):
        assert (row["kind"], row["step"]) == (other["kind"], other["step"])
        for key in ("tokens", "answer_tokens", "lr"):
            assert row.get(key) == other.get(key)
        for key in ("loss", "grad_norm"):
            assert row.get(key, 0) == pytest.approx(other.get(key, 0), rel=1e-6)
        assert row.get("gates", []) == pytest.approx(other.get("gates", []), rel=1e-5)


def assert_same_end(found: Path, expected: Path) -> None:
    weights, wanted = (
        {file.name: load_file(file) for file in sorted(folder.glob("*.safetensors"))}
        for folder in (found, expected)
    )
    assert weights.keys() == wanted.keys()
    for name in wanted:
        assert weights[name].keys() == wanted[name].keys()
        for key, tensor in wanted[name].items():
            torch.testing.assert_close(weights[name][key], tensor, rtol=0, atol=1e-5)
    rows, others = predictions(found), predictions(expected)
    assert [row["example_id"] for row in rows] == [row["example_id"] for row in others]
    assert [row["loss_sum"] for row in rows] == pytest.approx(
        [row["loss_sum"] for row in others], rel=1e-5
    )


def assert_equal(found: Path, expected: Path) -> None:
    assert stable_rows(found) == stable_rows(expected)
    assert predictions(found) == predictions(expected)


def test_two_ranks_train_as_one_device_does(tmp_path):
    train(tmp_path / "one", **FACTS)
    train_forked(tmp_path / "two", **FACTS)
    assert_same_training(tmp_path / "two", tmp_path / "one")
    assert_same_end(tmp_path / "two", tmp_path / "one")
    devices = [read_run(tmp_path / name).provenance["device"] for name in ("one", "two")]
    assert [each.get("devices") for each in devices] == [None, 2]
    assert devices[1]["strategy"] in ("auto", "ddp")
    first, *_, last = (row["gates"] for row in stable_rows(tmp_path / "two") if "gates" in row)
    assert first != last


@pytest.mark.slow
def test_with_another_share_of_the_loss_two_ranks_would_train_otherwise(tmp_path, monkeypatch):
    train(tmp_path / "one", **FACTS)
    monkeypatch.setattr("fseed.training.micro_batches.cut", lambda rows, n: [rows] * n)
    train_forked(tmp_path / "two", **FACTS)  # each rank reads the whole batch: twice the loss
    with pytest.raises(AssertionError):
        assert_same_training(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize(
    "overrides",
    [
        ("fs=scalar_l10", "fs_variant.detach=false"),
        ("fs_variant=head", "fs_variant.head_lr=1e-2"),
        ("fs_variant=inputgate", "fs_variant.input_lr=1e-2"),
        ("task=rightcopy", "fs=scalar_l10"),
        ("task=rightcopy", "fs_variant=head", "fs_variant.head_lr=1e-2"),
        ("task=rightcopy", "fs_variant=inputgate", "fs_variant.input_lr=1e-2"),
    ],
)
def test_every_arm_trains_as_on_one_device(tmp_path, strategy, overrides):
    values = values_for(overrides)
    train(tmp_path / "one", *overrides, **values)
    train_forked(tmp_path / "two", *overrides, **values, trainer__strategy=strategy)
    assert_same_training(tmp_path / "two", tmp_path / "one")
    assert_same_end(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("fs=no_fs",),
        ("control=same_layer",),
        ("control=learned_state",),
        ("control=random_state",),
        ("control=repeat_prompt", "fs=no_fs", "task=rightcopy"),
    ],
)
def test_baseline_and_controls_train_in_parts(tmp_path, overrides):
    values = values_for(overrides)
    train(tmp_path / "one", *overrides, **values)
    train_forked(tmp_path / "two", *overrides, **values, trainer__strategy="fsdp2")
    assert_same_training(tmp_path / "two", tmp_path / "one")
    assert_same_end(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize(
    "facts",
    [
        {"devices": 3},
        {"devices": 3, "trainer__micro_batch_size": 1},  # two, two and one samples
        {"trainer__micro_batch_size": 2, "trainer__activation_checkpointing": True},
        {"budget__generate": True, "optim__grad_clip": 0.0},
        {"alpha__lr": 0.0},
    ],
)
def test_sizes_and_memory_savings_change_nothing(tmp_path, strategy, facts):
    alone = {key: value for key, value in facts.items() if not key.startswith(("trainer", "dev"))}
    train(tmp_path / "one", **(FACTS | alone))
    train_forked(tmp_path / "many", **(FACTS | facts), trainer__strategy=strategy)
    assert_same_training(tmp_path / "many", tmp_path / "one")
    assert_same_end(tmp_path / "many", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_bf16_compute_keeps_float32_weights(tmp_path, strategy):
    facts = FACTS | {"trainer__precision": "bf16"}
    train(tmp_path / "one", **facts)
    train_forked(tmp_path / "two", **facts, trainer__strategy=strategy)
    # products in bf16 keep 8 bits, and the shapes they are computed in differ
    for row, other in zip(*(stable_rows(tmp_path / name) for name in ("two", "one")), strict=True):
        assert row.get("loss", 0) == pytest.approx(other.get("loss", 0), rel=1e-2)
    weights = load_file(tmp_path / "two" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_given_weights_are_read_by_every_rank(tmp_path, strategy):
    train(tmp_path / "first", **FACTS)
    given = {"model__weights": str(tmp_path / "first" / "model.safetensors"), "seed": 3}
    given["model__allow_above_uniform"] = False  # the loss of the backbone is summed over ranks
    train(tmp_path / "one", **FACTS, **given)
    train_forked(tmp_path / "two", **FACTS, **given, trainer__strategy=strategy)
    assert_same_training(tmp_path / "two", tmp_path / "one")
    assert_same_end(tmp_path / "two", tmp_path / "one")


def die_behind_step(monkeypatch, step: int) -> None:
    """Let every rank be killed right after the checkpoint of ``step``."""
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)


def kill_forked(run_dir: Path, *, monkeypatch, devices: int = 2, **values) -> None:
    config = tiny_config(**values, trainer__devices=devices)
    with monkeypatch.context() as patch:
        die_behind_step(patch, 2)
        codes = fork_ranks(config, run_dir)
    assert -signal.SIGKILL in codes
    assert 0 not in codes
    assert not (run_dir / "result.json").exists()


EVERY_TWO = FACTS | {"budget__eval_every_steps": 2}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_killed_run_of_two_ranks_continues_bit_equal(tmp_path, monkeypatch, strategy):
    facts = EVERY_TWO | {"trainer__strategy": strategy}
    train_forked(tmp_path / "whole", **facts)
    kill_forked(tmp_path / "killed", monkeypatch=monkeypatch, **facts)
    train_forked(tmp_path / "killed", **facts)
    assert_equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [("fsdp2", None), ("ddp", "fsdp2"), ("fsdp2", "fsdp2")],
)
def test_a_checkpoint_goes_on_with_any_number_of_devices(tmp_path, monkeypatch, before, after):
    train(tmp_path / "one", **EVERY_TWO)
    moved = tmp_path / "moved"
    kill_forked(moved, monkeypatch=monkeypatch, **EVERY_TWO, trainer__strategy=before)
    if after is None:
        assert train(moved, **EVERY_TWO).status == "finished"
    else:
        train_forked(moved, devices=3, **EVERY_TWO, trainer__strategy=after)
    assert_same_training(moved, tmp_path / "one")
    assert_same_end(moved, tmp_path / "one")
