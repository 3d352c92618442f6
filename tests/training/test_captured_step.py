"""Steps that are captured and replayed: the numbers, records and files of eager ones."""

import os
import signal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fseed.records import read_run
from fseed.training.callbacks import RecordSteps, SaveCheckpoint, StopWhenAsked
from fseed.training.captured_step import StepRunner
from fseed.training.runner import train_run
from tests.training.static_runs import (
    finish,
    static_plan,
    use_static_steps,
    weights_of,
)
from tests.training.test_prefetch import reading_threads
from tests.training.test_runner import Killed, predictions, stable_rows

STEPS = {"budget__steps": 12, "alpha__lr": 1e-3}
GATES = ("scalar", "inputgate")
QUICK_ARMS = ["fs=scalar_l10", "task=rightcopy"]
SLOW_ARMS = [
    *("fs=no_fs", "fs=head_l10", "fs=inputgate_l10", "fs=raw_l10"),
    *("control=learned_state", "control=same_layer", "control=shuffled_state"),
    *("control=repeat_prompt", "task=hotpot_retrieval"),
]
ARMS = [*QUICK_ARMS, *(pytest.param(arm, marks=pytest.mark.slow) for arm in SLOW_ARMS)]
MICRO = {"trainer__micro_batch_size": 2}


def both(tmp_path, monkeypatch, *overrides, **values):
    """Finish a run eagerly and by replaying; return both attempts."""
    found = {}
    for mode in ("eager", "graph"):
        use_static_steps(monkeypatch, mode)
        found[mode] = finish(static_plan(tmp_path / mode, *overrides, **values))
    return found["eager"], found["graph"]


def check_same(tmp_path, eager, graph) -> None:
    assert stable_rows(tmp_path / "graph") == stable_rows(tmp_path / "eager")
    assert predictions(tmp_path / "graph") == predictions(tmp_path / "eager")
    expected, found = weights_of(eager), weights_of(graph)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def values_of(override: str) -> dict:
    answers = {"task=rightcopy": 16, "task=hotpot_retrieval": 128}
    return {"task__max_answer_tokens": answers[override]} if override in answers else {}


@pytest.mark.parametrize("override", ARMS)
def test_replayed_steps_are_eager_ones_bit_for_bit(tmp_path, monkeypatch, override):
    values = STEPS | values_of(override)
    eager, graph = both(tmp_path, monkeypatch, override, **values)
    check_same(tmp_path, eager, graph)
    facts = read_run(tmp_path / "graph").provenance["step"]
    assert (facts["mode"], facts["reason"]) == ("graph", None)
    assert facts["graphs"] > (0 if override == "task=rightcopy" else 1)
    assert facts["graphs"] <= facts["eager_steps"] < 12
    assert facts["captured_seconds"] >= 0
    assert read_run(tmp_path / "eager").provenance["step"]["eager_steps"] == 12


@pytest.mark.slow
def test_replayed_micro_batches_are_eager_ones_bit_for_bit(tmp_path, monkeypatch):
    check_same(tmp_path, *both(tmp_path, monkeypatch, **STEPS, **MICRO))


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, MICRO, {"trainer__precision": "bf16"}])
def test_static_steps_learn_what_plain_steps_learn(tmp_path, monkeypatch, values):
    finish(static_plan(tmp_path / "plain", **STEPS, **values))
    use_static_steps(monkeypatch, "graph")
    finish(static_plan(tmp_path / "static", **STEPS, **values))
    rows = [stable_rows(tmp_path / name) for name in ("plain", "static")]
    rel = 1e-2 if "trainer__precision" in values else 2e-4
    for plain, static in zip(*rows, strict=True):
        assert plain.keys() == static.keys()
        for key in ("step", "tokens", "answer_tokens", "lr"):
            assert plain.get(key) == static.get(key)
        for key in ("loss", "grad_norm", "gates"):
            assert plain.get(key, 0) == pytest.approx(static.get(key, 0), rel=rel)


@pytest.mark.slow
def test_a_closed_gate_is_the_baseline_bit_for_bit(tmp_path, monkeypatch):
    use_static_steps(monkeypatch, "graph")
    losses = []
    for name in ("fs=no_fs", "control=aa"):
        finish(static_plan(tmp_path / name, name, **STEPS))
        losses.append([row.get("loss") for row in stable_rows(tmp_path / name)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("mode", ["graph", pytest.param("eager", marks=pytest.mark.slow)])
def test_a_killed_run_continues_bit_equal(tmp_path, monkeypatch, mode):
    """It is resumed in the other mode: an eager step and its replay are one."""
    options = STEPS | {"budget__eval_every_steps": 4, "budget__checkpoint_every_steps": 3}
    use_static_steps(monkeypatch, mode)
    whole = finish(static_plan(tmp_path / "whole", **options))
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
        with pytest.raises(Killed):
            finish(static_plan(tmp_path / "killed", **options))
    assert reading_threads() == 0
    assert stable_rows(tmp_path / "killed")[-1]["step"] == 6
    use_static_steps(monkeypatch, "graph" if mode == "eager" else "eager")
    continued = finish(static_plan(tmp_path / "killed", **options))
    assert stable_rows(tmp_path / "killed") == stable_rows(tmp_path / "whole")
    assert predictions(tmp_path / "killed") == predictions(tmp_path / "whole")
    ours, theirs = weights_of(whole), weights_of(continued)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_checkpoints_hold_what_eager_ones_hold(tmp_path, monkeypatch):
    both(tmp_path, monkeypatch, **STEPS, output__keep_checkpoint=True)
    files = [
        torch.load(tmp_path / mode / "checkpoint.ckpt", weights_only=True)
        for mode in ("eager", "graph")
    ]
    assert files[0]["global_step"] == files[1]["global_step"] == 12
    assert str(files[0]["loops"]) == str(files[1]["loops"])
    assert str(files[0]["lr_schedulers"]) == str(files[1]["lr_schedulers"])
    states = [file["optimizer_states"][0] for file in files]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert {type(group["lr"]) for group in states[1]["param_groups"]} == {float}
    for number, values in states[0]["state"].items():
        for key, value in values.items():
            assert torch.equal(value, states[1]["state"][number][key])


@pytest.mark.parametrize("bad", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(tmp_path, monkeypatch, bad):
    use_static_steps(monkeypatch, "graph")
    original = RecordSteps.on_train_batch_end

    def spoil(self, trainer, module, outputs, *args):
        if trainer.global_step == bad:
            outputs = {"numbers": torch.full_like(outputs["numbers"], float("nan"))}
        original(self, trainer, module, outputs, *args)

    monkeypatch.setattr(RecordSteps, "on_train_batch_end", spoil)
    outcome = train_run(static_plan(tmp_path, **STEPS, budget__checkpoint_every_steps=1))
    failure = read_run(tmp_path).failure
    assert failure is not None
    assert (outcome.exit_code, failure["class"], failure["last_step"]) == (1, "nan", bad)
    assert f"at step {bad}" in failure["message"]
    # nothing behind it was saved
    found = tmp_path / "checkpoint.ckpt"
    assert found.exists() == (bad > 1)
    if bad > 1:
        assert torch.load(found, weights_only=True)["global_step"] == bad - 1


@pytest.mark.slow
def test_without_a_checkpoint_it_is_told_one_step_later(tmp_path, monkeypatch):
    use_static_steps(monkeypatch, "graph")
    outcome = train_run(static_plan(tmp_path, **STEPS, optim__lr=1e30, optim__grad_clip=0.0))
    failure = read_run(tmp_path).failure
    assert failure is not None
    assert (outcome.exit_code, failure["class"]) == (1, "nan")
    assert failure["last_step"] == stable_rows(tmp_path)[-1]["step"]
    assert f"at step {failure['last_step']}" in failure["message"]


def test_ctrl_c_saves_with_every_row_and_the_next_call_continues(tmp_path, monkeypatch):
    use_static_steps(monkeypatch, "graph")
    finish(static_plan(tmp_path / "whole", **STEPS))
    original = StopWhenAsked.on_train_batch_end

    def ask(self, trainer, *args):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(StopWhenAsked, "on_train_batch_end", ask)
        assert train_run(static_plan(tmp_path / "cut", **STEPS)).status == "interrupted"
    assert stable_rows(tmp_path / "cut")[-1]["step"] == 5
    assert train_run(static_plan(tmp_path / "cut", **STEPS)).status == "finished"
    assert stable_rows(tmp_path / "cut") == stable_rows(tmp_path / "whole")


def test_an_error_loses_no_row(tmp_path, monkeypatch):
    use_static_steps(monkeypatch, "graph")
    original = SaveCheckpoint.on_train_batch_end

    def fail(self, trainer, *args):
        if trainer.global_step == 5:
            raise ValueError("broken")
        original(self, trainer, *args)

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", fail)
    assert train_run(static_plan(tmp_path, **STEPS)).status == "failed"
    assert [row["step"] for row in stable_rows(tmp_path) if row["kind"] == "train"] == [
        *range(1, 6)
    ]
    assert reading_threads() == 0


def test_an_error_of_the_batches_is_that_of_the_run(tmp_path, monkeypatch):
    use_static_steps(monkeypatch, "graph")

    def broken(*_, **__):
        raise ValueError("no batch")

    monkeypatch.setattr("fseed.training.data_module.pad_batch", broken)
    outcome = train_run(static_plan(tmp_path, **STEPS))
    assert (outcome.status, outcome.message) == ("failed", "ValueError: no batch")
    assert reading_threads() == 0


HOST_READS = (
    *("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique"),
    # where they are deterministic on CUDA, they may copy strides from the host
    *("scatter_add", "scatter_add_", "scatter_", "gather"),
)


class NoHostReads(TorchDispatchMode):
    """Refuses what would wait for a GPU: values that Python reads, shapes that values decide."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num_calls += 1
        name = func.name().removeprefix("aten::").split(".")[0]
        assert name not in HOST_READS, f"{name} reads a value on the host"
        if name.startswith("index") and isinstance(args[1], list | tuple):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "a mask as an index"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "override",
    ["task=rightcopy", *(pytest.param(f"fs={a}_l10", marks=pytest.mark.slow) for a in GATES)],
)
def test_a_step_reads_nothing_on_the_host(tmp_path, monkeypatch, override):
    """With the reference operators: the chunked ones look at the lengths on a CPU."""
    original, calls = StepRunner.run, []

    def watched(self, batch):
        with NoHostReads() as mode:
            numbers = original(self, batch)
        calls.append(mode.num_calls)
        return numbers

    use_static_steps(monkeypatch, "graph")
    monkeypatch.setattr(StepRunner, "run", watched)
    values = {"budget__steps": 2, "trainer__wkv_backend": "reference", **MICRO}
    values |= values_of(override)
    finish(static_plan(tmp_path, override, **values))
    assert min(calls) > 500
