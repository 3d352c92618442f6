"""Steps that are captured and replayed: the numbers, records and files of eager ones."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fseed.config.schema import Accelerator, ControlKind, StepMode
from fseed.errors import UserError
from fseed.records import read_run
from fseed.training.callbacks import RecordSteps, SaveCheckpoint, StopWhenAsked
from fseed.training.captured_step import StepRunner, choose_step
from fseed.training.runner import train_run
from fseed.training.static_batch import Buckets, pad_batch
from tests.training.build import tiny_config
from tests.training.static_runs import (
    ReplayRecorder,
    finish,
    static_plan,
    use_static_steps,
    weights_of,
)
from tests.training.test_micro_batches import BATCH
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


class Counted:
    """A step of one weight: counts what is done and may run out of memory."""

    def __init__(self, *, fail_at: int | None = None, error: Exception | None = None) -> None:
        self.calls, self.updates, self.fail_at = 0, 0, fail_at
        self.error = error or torch.OutOfMemoryError("full")

    def gradients(self, batch):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return batch.prompt.sum()

    def update(self, total):
        self.updates += 1
        return total.float().reshape(1)

    def runner(self, recorder, **options) -> StepRunner:
        return StepRunner(
            gradients=self.gradients, update=self.update, device=torch.device("cpu"),
            recorder=recorder, **options,
        )  # fmt: skip


def batch_of(prompt: int):
    """Return a batch whose prompts are padded to ``prompt`` tokens."""
    return pad_batch(BATCH, Buckets(longest_prompt=prompt, longest_answer=9))


def test_the_first_step_of_a_shape_is_eager_the_second_captured_and_none_is_done_twice():
    step, recorder = Counted(), ReplayRecorder()
    runner = step.runner(recorder)
    for _ in range(4):
        # the buffers take the batch of each step
        batch = batch_of(200)
        batch = batch._replace(prompt=batch.prompt + step.updates)
        assert runner.run(batch).item() == batch.prompt.sum()
    assert (step.calls, step.updates) == (4, 4)
    assert (recorder.num_captured, recorder.num_replayed) == (1, 3)
    assert runner.facts()["graphs"] == 1
    assert runner.facts()["eager_steps"] == 1


def test_behind_the_bound_steps_are_eager_and_the_records_say_so():
    step, recorder = Counted(), ReplayRecorder()
    runner = step.runner(recorder, max_graphs=1)
    for prompt in (16, 200, 16, 200, 200):
        runner.run(batch_of(prompt))
    assert (step.updates, recorder.num_captured) == (5, 1)
    facts = runner.facts()
    assert (facts["graphs"], facts["eager_steps"]) == (1, 4)
    assert facts["reason"] == "batches of more than 1 shapes"


def test_an_eager_step_for_which_graphs_leave_no_memory_is_done_without_them():
    step = Counted(fail_at=3)
    runner = step.runner(ReplayRecorder())
    for prompt in (16, 16, 200, 200):
        runner.run(batch_of(prompt))
    assert step.updates == 4
    facts = runner.facts()
    assert (facts["graphs"], facts["eager_steps"]) == (1, 3)
    assert facts["reason"] == "memory does not hold graphs beside a step without them"


class FullRecorder:
    """Runs out of memory, and reports that the capture is broken."""

    def capture(self, function):
        try:
            raise torch.OutOfMemoryError("full")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_memory_that_does_not_hold_a_graph_is_found_behind_the_error_of_the_capture():
    step = Counted()
    runner = step.runner(FullRecorder())
    for _ in range(3):
        runner.run(batch_of(16))
    facts = runner.facts()
    assert (step.updates, facts["graphs"], facts["eager_steps"]) == (3, 0, 3)
    assert facts["reason"] == "memory does not hold graphs beside a step without them"


@pytest.mark.parametrize(
    ("fail_at", "error"), [(1, None), (2, None), (2, ValueError("other")), (3, ValueError("other"))]
)
def test_other_errors_and_memory_that_no_graph_holds_are_raised(fail_at, error):
    step = Counted(fail_at=fail_at, error=error)
    runner = step.runner(ReplayRecorder())
    for prompt in (16, 16, 200)[: fail_at - 1]:
        runner.run(batch_of(prompt))
    with pytest.raises(type(step.error)):
        runner.run(batch_of((16, 16, 200)[fail_at - 1]))


def gpu_config(**values):
    config = tiny_config(**values)
    return replace(config, trainer=replace(config.trainer, accelerator=Accelerator.gpu))


def test_a_gpu_with_kernels_captures_its_steps():
    for backend in ("cuda", "triton"):
        step = choose_step(gpu_config(), backend=backend)
        assert (step.mode, step.is_static, step.reason) == ("graph", True, None)


def test_what_cannot_be_captured_is_eager_and_says_why():
    noise = gpu_config()
    noise = replace(noise, control=replace(noise.control, kind=ControlKind.random_state))
    cases = [
        (tiny_config(), "chunked", False, "no"),
        (gpu_config(), "chunked", False, "launch no kernels"),
        (noise, "triton", False, "noise on the host"),
        (gpu_config(trainer__devices=2), "triton", False, "several devices"),
        (gpu_config(), "triton", True, "memory ran out"),
        (gpu_config(trainer__step="eager"), "triton", False, "trainer.step=eager"),
    ]
    for config, backend, is_split, reason in cases:
        step = choose_step(config, backend=backend, is_split=is_split)
        assert step.mode == "eager"
        assert step.reason is not None
        assert reason in step.reason
        is_alone_on_gpu = config.trainer.devices == 1 and config is not cases[0][0]
        assert step.is_static == is_alone_on_gpu


def test_graphs_that_were_asked_for_are_not_replaced():
    config = gpu_config(trainer__step="graph")
    assert config.trainer.step is StepMode.graph
    with pytest.raises(UserError, match="the operators chunked launch no kernels"):
        choose_step(config, backend="chunked")
    # but memory that ran out is no reason to end
    assert choose_step(config, backend="cuda", is_split=True).mode == "eager"


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
