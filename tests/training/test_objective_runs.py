"""Whole runs of the objectives with a task head: records, frozen parts, and continuation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fseed.records import read_run
from fseed.tasks.hotpot_retrieval import HOTPOT_RETRIEVAL
from fseed.tasks.registry import task_notes
from fseed.training import build as build_module
from fseed.training.attempt import Attempt
from fseed.training.callbacks import SaveCheckpoint
from fseed.training.interrupt import InterruptFlag
from tests.training.build import plan, tiny_config
from tests.training.test_runner import Killed, predictions, stable_rows, train

RETRIEVAL = ("task=hotpot_retrieval",)
FILL = ("task=rightcopy",)
RUNS = [
    pytest.param(RETRIEVAL, {"task__max_answer_tokens": 64}, id="retrieval"),
    pytest.param(FILL, {"task__max_answer_tokens": 16}, id="fill"),
]


@pytest.fixture
def busy_backbone(monkeypatch):
    """Fill the output matrices that a fresh backbone has at zero, as if it had been trained."""

    def build(config, **facts):
        model = original(config, **facts)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2 and not parameter.any():
                    parameter.normal_(std=0.2, generator=generator)
        return model

    original = build_module.build_model
    monkeypatch.setattr(build_module, "build_model", build)


def final_rows(run_dir: Path) -> list[dict]:
    return [row for row in predictions(run_dir) if row["step"] == 6]


@pytest.mark.parametrize(("overrides", "values"), RUNS)
def test_score_and_weight_reproduce_the_primary_metric_at_every_step(tmp_path, overrides, values):
    outcome = train(tmp_path, *overrides, **values, budget__eval_every_steps=4)
    assert outcome.status == "finished"
    result = read_run(tmp_path).result
    assert result is not None
    assert [entry["step"] for entry in result["evaluations"]] == [0, 4, 6]
    for entry in result["evaluations"]:
        rows = [row for row in predictions(tmp_path) if row["step"] == entry["step"]]
        assert len(rows) == 7
        value = sum(row["score"] for row in rows) / sum(row["weight"] for row in rows)
        assert entry["metrics"][result["primary_metric"]]["value"] == pytest.approx(value)


def test_records_of_a_retrieval_run(tmp_path):
    train(tmp_path, *RETRIEVAL, task__max_answer_tokens=64, budget__generate=True)
    record = read_run(tmp_path)
    assert record.result is not None
    assert record.result["primary_metric"] == "recall_at_1"
    last = record.result["evaluations"][-1]["metrics"]
    assert set(last) >= {"recall_at_1", "recall_at_5", "mrr_at_10", "loss"}
    rows = final_rows(tmp_path)
    for name in ("recall_at_1", "recall_at_5", "mrr_at_10"):
        assert last[name] == HOTPOT_RETRIEVAL.metrics[name].pool(rows)._asdict()
    assert all(1 <= row["rank"] <= 7 for row in rows)
    assert last["loss"]["value"] == pytest.approx(sum(row["loss_sum"] for row in rows) / 7)
    assert record.result["constant_baseline"]["recall_at_1"] == pytest.approx(1 / 7)
    assert record.result["copy_baseline"] == {}
    assert len(record.result["gates"]["last"]) == 2


def test_records_of_a_fill_run(tmp_path):
    train(tmp_path, *FILL, task__max_answer_tokens=16, budget__generate=True)
    result = read_run(tmp_path).result
    assert result is not None
    rows = final_rows(tmp_path)
    assert {row["prediction"] for row in rows} == {None}
    assert {row["end_of_text_correct"] for row in rows} == {None}
    steps = [row for row in stable_rows(tmp_path) if row["kind"] == "train"]
    # the masked tokens are part of the prompt and count once
    assert all(row["answer_tokens"] == 4 * 16 < row["tokens"] for row in steps)
    assert result["copy_baseline"]


def parameters_after(run_dir: Path, *overrides: str, **values):
    """Return the module of a finished run and its parameters before training."""
    with InterruptFlag() as flag:
        run = plan(tiny_config(*overrides, **values), run_dir)
        attempt = Attempt(run, flag, position="1/1")
        before = {name: p.detach().clone() for name, p in attempt.module.named_parameters()}
        attempt.run_to_end()
    return attempt.module, before


def moved(module, before) -> set[str]:
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize("alpha_lr", [0.0, 5e-3])
def test_retrieval_trains_the_projection_and_gates_that_have_a_rate(tmp_path, alpha_lr):
    module, before = parameters_after(
        tmp_path, *RETRIEVAL, task__max_answer_tokens=64, alpha__lr=alpha_lr
    )
    expected = {"learner.task_head.weight"}
    expected |= {"learner.future_seed.gate_logit"} if alpha_lr > 0 else set()
    assert moved(module, before) == expected


def test_a_fill_trains_the_mask_embedding_with_the_backbone(tmp_path):
    module, before = parameters_after(tmp_path, *FILL, task__max_answer_tokens=16)
    names = moved(module, before)
    assert "learner.task_head.weight" in names
    assert "learner.model.head.weight" in names


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize(("overrides", "values"), RUNS)
def test_a_killed_run_with_a_task_head_continues_bit_equal(
    tmp_path, monkeypatch, overrides, values
):
    options = values | {"budget__eval_every_steps": 2, "alpha__lr": 5e-4}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(whole, *overrides, **options, output__save_weights=True)
    saves, original = [], SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        saves.append(trainer.global_step in self.due)
        if saves[-1] and sum(saves) == 2:
            raise Killed

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
    with pytest.raises(Killed):
        train(killed, *overrides, **options, output__save_weights=True)
    monkeypatch.undo()
    assert read_run(killed).status == "unfinished"
    assert train(killed, *overrides, **options, output__save_weights=True).status == "finished"
    assert stable_rows(killed) == stable_rows(whole)
    assert predictions(killed) == predictions(whole)
    for path in whole.glob("*.safetensors"):
        assert path.read_bytes() == (killed / path.name).read_bytes()


@pytest.mark.parametrize(("overrides", "values"), RUNS)
def test_the_task_head_is_kept_with_the_weights(tmp_path, overrides, values):
    train(tmp_path, *overrides, **values, output__save_weights=True, output__keep_checkpoint=True)
    (path,) = tmp_path.glob("*task_head*.safetensors")
    saved = load_file(path)
    state = torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)["state_dict"]
    assert set(saved) == {"weight"}
    assert torch.equal(saved["weight"], state["learner.task_head.weight"])


def train_losses(run_dir: Path) -> list[float]:
    return [row["loss"] for row in stable_rows(run_dir) if row["kind"] == "train"]


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize("choice", ["control=aa", "control=repeat_prompt", "alpha.init=2.0"])
@pytest.mark.parametrize(("overrides", "values"), RUNS)
def test_only_the_aa_arm_ties_with_its_baseline(tmp_path, overrides, values, choice):
    train(tmp_path / "base", *overrides, "fs=no_fs", **values)
    train(tmp_path / "arm", *overrides, choice, **values)
    base, arm = (train_losses(tmp_path / name) for name in ("base", "arm"))
    if choice == "control=aa":
        assert base == arm
        assert predictions(tmp_path / "base") == predictions(tmp_path / "arm")
    else:
        assert all(abs(one - other) > 1e-4 for one, other in zip(base, arm, strict=True))


def test_future_seed_cannot_act_on_a_frozen_random_backbone(tmp_path):
    """Its output matrices are zero: what ``task_notes`` warns about."""
    values = {"task__max_answer_tokens": 64}
    train(tmp_path / "base", *RETRIEVAL, "fs=no_fs", **values)
    train(tmp_path / "arm", *RETRIEVAL, "alpha.init=2.0", **values)
    assert predictions(tmp_path / "base") == predictions(tmp_path / "arm")
    assert task_notes("hotpot_retrieval", has_weights=False)
