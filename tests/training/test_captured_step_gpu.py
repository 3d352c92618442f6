"""Steps as CUDA graphs on the kernels of a GPU, in bf16: eager steps bit for bit, no host reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fseed.planned_run import PlannedRun
from fseed.records import read_run
from fseed.training.attempt import Attempt
from fseed.training.callbacks import RecordSteps, SaveCheckpoint
from fseed.training.captured_step import StepRunner
from fseed.training.static_batch import shape_key
from tests.training.build import plan, tiny_config
from tests.training.static_runs import finish, weights_of
from tests.training.test_runner import Killed, predictions, stable_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
STEPS = 24  # most shapes come three times and more
GPU = {
    "model__width": 256,
    "model__head_size": 64,
    "model__ffn_width": 512,
    "model__decay_rank": 32,
    "model__in_context_rank": 32,
    "model__value_rank": 32,
    "model__gate_rank": 32,
    "data__num_train": 40,
    "task__max_length_tokens": 256,
    "budget__steps": STEPS,
    "alpha__lr": 1e-3,
    "trainer__precision": "bf16",
}
ARMS = ["fs=no_fs", "fs=scalar_l10", "fs=head_l10", "fs=inputgate_l10", "fs=raw_l10"]
CONTROLS = ["control=learned_state", "control=same_layer", "control=repeat_prompt"]
TASKS = {"task=rightcopy": 16, "task=hotpot_retrieval": 128}


def gpu_plan(run_dir: Path, *overrides: str, step: str, **values) -> PlannedRun:
    lengths = [TASKS[name] for name in overrides if name in TASKS]
    answers = {"task__max_answer_tokens": lengths[0]} if lengths else {}
    given = GPU | answers | values
    run = plan(tiny_config(*overrides, **given), run_dir)
    gpu = tiny_config(*overrides, **given, trainer__accelerator="gpu", trainer__step=step)
    return replace(run, config=gpu)


def check_same(attempts: list[Attempt], folders: list[Path]) -> None:
    rows = [stable_rows(folder) for folder in folders]
    assert rows[0] == rows[1]
    assert predictions(folders[0]) == predictions(folders[1])
    expected, found = map(weights_of, attempts)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.parametrize("override", [*ARMS, *CONTROLS, *TASKS])
def test_graphs_are_eager_steps_bit_for_bit(tmp_path, backend, override):
    found = [
        finish(gpu_plan(tmp_path / step, override, step=step, trainer__wkv_backend=backend))
        for step in ("eager", "graph")
    ]
    check_same(found, [tmp_path / "eager", tmp_path / "graph"])
    facts = read_run(tmp_path / "graph").provenance["step"]
    assert (facts["mode"], facts["reason"]) == ("graph", None)
    assert 0 < facts["graphs"] < STEPS
    assert facts["eager_steps"] < STEPS


@pytest.mark.parametrize("values", [{"trainer__micro_batch_size": 2},
                                    {"trainer__activation_checkpointing": True},
                                    {"trainer__precision": "float32"}])  # fmt: skip
def test_graphs_of_other_steps_are_eager_ones_bit_for_bit(tmp_path, values):
    backend = {"trainer__wkv_backend": "triton"}
    found = [
        finish(gpu_plan(tmp_path / step, step=step, **backend, **values))
        for step in ("eager", "graph")
    ]
    check_same(found, [tmp_path / "eager", tmp_path / "graph"])


def test_a_closed_gate_is_the_baseline_bit_for_bit(tmp_path):
    for name in ("fs=no_fs", "control=aa"):
        finish(gpu_plan(tmp_path / name, name, step="graph"))
    losses = [
        [row["loss"] for row in stable_rows(tmp_path / name) if row["kind"] == "train"]
        for name in ("fs=no_fs", "control=aa")
    ]
    assert losses[0] == losses[1]


def test_a_killed_run_continues_bit_equal(tmp_path, monkeypatch):
    options = {"step": "graph", "budget__eval_every_steps": 4, "budget__checkpoint_every_steps": 3}
    whole = finish(gpu_plan(tmp_path / "whole", **options))
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
        with pytest.raises(Killed):
            finish(gpu_plan(tmp_path / "killed", **options))
    continued = finish(gpu_plan(tmp_path / "killed", **options))
    check_same([whole, continued], [tmp_path / "whole", tmp_path / "killed"])


@contextmanager
def no_synchronisation() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("step", ["eager", "graph"])
@pytest.mark.parametrize("override", [*ARMS, *CONTROLS, *TASKS])
def test_a_step_waits_for_nothing(tmp_path, monkeypatch, override, step):
    """From the second step on: the first makes what is made once."""
    checked, run, send = [], StepRunner.run, RecordSteps.on_train_batch_end

    def watched_run(self, batch):
        if not checked:
            checked.append(0)
            return run(self, batch)
        shape = self._shapes.get(shape_key(batch))
        # opening buffers and capturing wait for the device, once a shape
        if step == "graph" and (shape is None or shape.replay is None):
            return run(self, batch)
        with no_synchronisation():
            found = run(self, batch)
        checked[0] += 1
        return found

    monkeypatch.setattr(StepRunner, "run", watched_run)

    def watched_send(self, trainer, module, outputs, *args):
        with no_synchronisation():
            module.step_numbers(outputs).to("cpu", non_blocking=True)
        send(self, trainer, module, outputs, *args)

    monkeypatch.setattr(RecordSteps, "on_train_batch_end", watched_send)
    finish(gpu_plan(tmp_path, override, step=step))
    assert checked[0] >= 3


def test_random_noise_of_the_host_is_eager_and_says_why(tmp_path):
    finish(gpu_plan(tmp_path, "control=random_state", step="auto"))
    facts = read_run(tmp_path).provenance["step"]
    assert (facts["mode"], facts["graphs"], facts["eager_steps"]) == ("eager", 0, STEPS)
    assert "noise on the host" in facts["reason"]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    run = gpu_plan(tmp_path, step="graph", optim__lr=1e30, optim__grad_clip=0.0,
                   optim__warmup_steps=0)  # fmt: skip
    with pytest.raises(FloatingPointError, match="at step"):
        finish(run)
    rows = [row for row in stable_rows(tmp_path) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [*range(1, len(rows) + 1)]
