import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fseed.records import read_metrics, read_run
from fseed.training import attempt as attempt_module
from fseed.training import build as build_module
from fseed.training.attempt import Attempt
from fseed.training.callbacks import SaveCheckpoint
from fseed.training.interrupt import InterruptFlag
from fseed.training.runner import classify_failure, train_run
from tests.training.build import plan, tiny_config

VOLATILE = {"seconds", "tokens_per_second", "memory_gib"}


def train(run_dir: Path, *overrides: str, **values):
    return train_run(plan(tiny_config(*overrides, **values), run_dir))


def stable_rows(run_dir: Path) -> list[dict]:
    rows, torn = read_metrics(run_dir / "metrics.jsonl")
    assert torn == []
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def predictions(run_dir: Path) -> list[dict]:
    return read_run(run_dir).predictions().to_pylist()


def test_a_finished_run_has_every_record(tmp_path):
    outcome = train(tmp_path, budget__generate=True, budget__eval_every_steps=4)
    record = read_run(tmp_path)
    assert (outcome.status, outcome.exit_code, record.status) == ("finished", 0, "finished")
    result = record.result
    assert [e["step"] for e in result["evaluations"]] == [0, 4, 6]
    assert result["evaluations"][0]["metrics"].keys() < result["evaluations"][2]["metrics"].keys()
    assert result["steps"] == 6
    assert result["tokens"] == sum(
        r["tokens"] for r in stable_rows(tmp_path) if r["kind"] == "train"
    )
    assert record.provenance["model"]["initialization"] == "random"
    assert record.provenance["data"]["counts"] == {"train": 24, "validation": 7}
    assert len(predictions(tmp_path)) == 3 * 7
    assert not (tmp_path / "checkpoint.ckpt").exists()


def test_pooled_metrics_are_those_of_the_predictions(tmp_path):
    train(tmp_path)
    last = [row for row in predictions(tmp_path) if row["step"] == 6]
    metrics = read_run(tmp_path).result["evaluations"][-1]["metrics"]
    units = sum(row["num_units"] for row in last)
    assert metrics["token_accuracy"]["value"] == sum(row["num_correct"] for row in last) / units
    assert metrics["token_accuracy"]["n"] == units
    tokens = sum(row["num_tokens"] for row in last)
    assert metrics["loss"]["value"] == pytest.approx(sum(row["loss_sum"] for row in last) / tokens)


def test_the_same_run_twice_gives_the_same_numbers(tmp_path):
    train(tmp_path / "a")
    train(tmp_path / "b")
    assert stable_rows(tmp_path / "a") == stable_rows(tmp_path / "b")
    assert predictions(tmp_path / "a") == predictions(tmp_path / "b")


@pytest.mark.parametrize("control", ["aa", "repeat_prompt"])
def test_an_aa_arm_ties_with_its_baseline_and_the_repeat_arm_does_not(tmp_path, control):
    train(tmp_path / "base", "fs=no_fs")
    train(tmp_path / "arm", f"control={control}")
    base, arm = (stable_rows(tmp_path / name) for name in ("base", "arm"))
    losses = [[row["loss"] for row in rows if row["kind"] == "train"] for rows in (base, arm)]
    assert (losses[0] == losses[1]) == (control == "aa")
    assert (predictions(tmp_path / "base") == predictions(tmp_path / "arm")) == (control == "aa")


def test_all_arms_of_a_seed_read_the_same_batches(tmp_path):
    train(tmp_path / "base", "fs=no_fs")
    train(tmp_path / "arm", alpha__init=2.0)
    base, arm = (stable_rows(tmp_path / name) for name in ("base", "arm"))
    assert [r.get("tokens") for r in base] == [r.get("tokens") for r in arm]
    assert [r["loss"] for r in base if "loss" in r] != [r["loss"] for r in arm if "loss" in r]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


@pytest.mark.parametrize(
    ("when", "kill_at_save"),
    [
        ("before", 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("before", 1), ("after", 1))),
        ("after", 2),
    ],
)
def test_a_killed_run_continues_bit_equal(tmp_path, monkeypatch, kill_at_save, when):
    options = {"budget__eval_every_steps": 2, "alpha__lr": 5e-4}
    train(tmp_path / "whole", **options)
    saves, original = [], SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        due = trainer.global_step in self.due
        saves.append(due)
        if due and sum(saves) == kill_at_save and when == "before":
            raise Killed
        original(self, trainer, *args)
        if due and sum(saves) == kill_at_save:
            raise Killed

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
    with pytest.raises(Killed):
        train(tmp_path / "killed", **options)
    monkeypatch.undo()
    assert read_run(tmp_path / "killed").status == "unfinished"
    assert train(tmp_path / "killed", **options).status == "finished"
    assert stable_rows(tmp_path / "killed") == stable_rows(tmp_path / "whole")
    assert predictions(tmp_path / "killed") == predictions(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_save_and_the_next_call_continues(
    tmp_path, monkeypatch, number
):
    train(tmp_path / "whole")
    original = InterruptFlag.__enter__

    def enter_and_ask(self):
        original(self)
        os.kill(os.getpid(), number)
        return self

    monkeypatch.setattr(InterruptFlag, "__enter__", enter_and_ask)
    # the first check is before the first scoring batch: nothing is trained yet
    assert train(tmp_path / "stopped").status == "interrupted"
    monkeypatch.undo()
    assert read_run(tmp_path / "stopped").failure["class"] == "interrupted"
    assert train(tmp_path / "stopped").status == "finished"
    assert stable_rows(tmp_path / "stopped") == stable_rows(tmp_path / "whole")


def test_under_nohup_a_closed_terminal_is_not_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with InterruptFlag() as flag:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not flag.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_goes_on_though_nobody_reads_what_it_tells(tmp_path, monkeypatch):
    """The reader of a pipe that ends, as ``tee`` does at Ctrl-C."""
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        outcome = train(tmp_path, trainer__progress=True)
    assert outcome.status == "finished", outcome.message


def test_a_nan_loss_fails_the_run_with_its_step(tmp_path):
    outcome = train(tmp_path, optim__lr=1e30, optim__grad_clip=0.0, optim__warmup_steps=0)
    failure = read_run(tmp_path).failure
    assert (outcome.status, outcome.exit_code, failure["class"]) == ("failed", 1, "nan")
    assert failure["last_step"] >= 1
    assert not (tmp_path / "result.json").exists()


def test_data_that_changed_after_planning_is_refused(tmp_path):
    run = replace(plan(tiny_config(), tmp_path), data_hash="0" * 64)
    outcome = train_run(run)
    assert (outcome.status, outcome.exit_code) == ("failed", 2)
    assert "the data changed after this run was planned" in outcome.message
    assert read_run(tmp_path).failure["class"] == "data"


def test_torn_predictions_of_an_unsaved_start_do_not_block_the_run(tmp_path):
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 torn")
    assert train(tmp_path).status == "finished"


def die_at_the_first_checkpoint(run_dir, monkeypatch):
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step in self.due:
            raise Killed

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
    with pytest.raises(Killed):
        train(run_dir, budget__checkpoint_every_steps=2)
    monkeypatch.undo()


def test_predictions_lost_behind_a_checkpoint_are_named(tmp_path, monkeypatch):
    die_at_the_first_checkpoint(tmp_path, monkeypatch)
    (tmp_path / "predictions.parquet").unlink()
    outcome = train(tmp_path, budget__checkpoint_every_steps=2)
    assert outcome.exit_code == 2
    assert "records before it are incomplete; delete the folder" in outcome.message


def test_every_attempt_stands_in_the_provenance(tmp_path, monkeypatch):
    die_at_the_first_checkpoint(tmp_path, monkeypatch)
    train(tmp_path, budget__checkpoint_every_steps=2)
    attempts = read_run(tmp_path).provenance["attempts"]
    assert len(attempts) == 2
    assert attempts[0]["versions"] == attempts[1]["versions"]
    plain = {"name": "chunked", "precision": None, "variant": None, "refused": []}
    assert [attempt["wkv_backend"] for attempt in attempts] == [plain, plain]


def test_the_shuffled_control_differs_from_its_arm(tmp_path):
    train(tmp_path / "arm", alpha__init=2.0)
    train(tmp_path / "shuffled", "control=shuffled_state", alpha__init=2.0)
    losses = [[row.get("loss") for row in stable_rows(tmp_path / n)] for n in ("arm", "shuffled")]
    assert losses[0] != losses[1]


def test_failure_classes():
    assert classify_failure(torch.OutOfMemoryError("x")) == "oom"
    assert classify_failure(MemoryError()) == "oom"
    assert classify_failure(ConnectionError()) == "network"
    assert classify_failure(ZeroDivisionError()) == "error"


def test_weights_worse_than_uniform_are_refused_unless_told_otherwise(tmp_path, monkeypatch):
    def build_bad_model(config):
        model = original(config)
        with torch.no_grad():
            model.head.weight.mul_(50)
        return model

    original = build_module.build_model
    given = {"model__weights": "given.pth"}
    monkeypatch.setattr(attempt_module, "check_weights_unchanged", lambda run: None)
    monkeypatch.setattr(
        build_module, "build_model", lambda config, **_: build_bad_model(without_weights(config))
    )
    outcome = train(tmp_path, **given)
    assert outcome.exit_code == 2
    assert "above the uniform guess (5.55)" in outcome.message
    assert train(tmp_path, **given, model__allow_above_uniform=True).status == "finished"


def without_weights(config):
    return tiny_config(seed=config.seed)


def test_bf16_keeps_float32_master_weights_that_move(tmp_path):
    """At a learning rate of 3e-5 a pure bf16 weight of 0.5 never moves."""
    config = tiny_config(trainer__precision="bf16", optim__lr=3e-5, optim__warmup_steps=0)
    with InterruptFlag() as flag:
        attempt = Attempt(plan(config, tmp_path), flag, position="1/1")
        parameter = attempt.module.model.layers[0].ln1.weight
        before = parameter.detach().clone()
        attempt.run_to_end()
    assert parameter.dtype == torch.float32
    moved = (parameter.detach() - before).abs()
    assert moved.max() > 1e-5
    assert torch.equal(before.bfloat16(), parameter.detach().bfloat16())


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_and_repeats_nothing(tmp_path):
    options = [
        "budget.steps=12", "budget.batch_size=4", "budget.eval_every_steps=3", "data.num_train=24",
        "data.num_validation=8", "model.num_layers=3", "lstart=1", "trainer.progress=false",
    ]  # fmt: skip

    def command(root: Path) -> list[str]:
        return [sys.executable, "-m", "fseed.run", f"output.root={root}", *options]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    killed = tmp_path / "killed"
    for attempt, delay in enumerate((0.0, 0.3, 0.7)):
        process = subprocess.Popen(
            command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_step(killed, at_least=attempt * 3 + 1)
        time.sleep(delay)
        process.kill()
        process.wait()
    subprocess.run(command(killed), check=True, capture_output=True)
    (whole_dir,), (killed_dir,) = (
        sorted(p.glob("*/*/*/*/s0-*")) for p in (tmp_path / "whole", killed)
    )
    assert stable_rows(killed_dir) == stable_rows(whole_dir)
    assert json.loads((killed_dir / "result.json").read_text())["steps"] == 12


def wait_for_step(root: Path, *, at_least: int, timeout_seconds: float = 120) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        for path in root.glob("*/*/*/*/s0-*/metrics.jsonl"):
            if any(row["step"] >= at_least for row in read_metrics(path)[0]):
                return
        time.sleep(0.05)
    raise TimeoutError(f"no step {at_least} under {root}")
