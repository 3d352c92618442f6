"""Memory that runs out in the middle of a run: the same batches in smaller parts, on record."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fseed.errors import UserError
from fseed.records import read_metrics, read_run
from fseed.training.attempt import Attempt
from fseed.training.evaluation import Evaluator
from fseed.training.memory_split import EVALUATION, TRAINING, Split, halve, with_splits
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.runner import train_run
from tests.training.build import plan, tiny_config


def cpu_error():
    return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def gpu_error():
    return torch.OutOfMemoryError("simulated")


def train(run_dir, *overrides, **values):
    values = {"budget__checkpoint_every_steps": 2} | values
    return train_run(plan(tiny_config(*overrides, **values), run_dir))


def split_rows(run_dir):
    rows, _ = read_metrics(run_dir / "metrics.jsonl")
    return [row for row in rows if row["kind"] == "memory_split"]


def numbers(run_dir, key):
    rows, _ = read_metrics(run_dir / "metrics.jsonl")
    return [row[key] for row in rows if row["kind"] == "train"]


@pytest.fixture
def memory(monkeypatch):
    """Memory for so many samples in a backward pass and in a scored batch, from a step on."""

    found = SimpleNamespace(training=99, scoring=99, from_step=0, step=0, error=gpu_error)
    loss, training_step = Learner.loss, FutureSeedModule.training_step
    predict = Evaluator._start_answers

    def shrink(batch, limit):
        if len(batch.prompt) > limit and found.step >= found.from_step:
            raise found.error()  # a kept one would hold its traceback

    def counted_step(self, batch, batch_idx):
        found.step = self.trainer.global_step
        return training_step(self, batch, batch_idx)

    def limited_loss(self, batch):
        shrink(batch, found.training)
        return loss(self, batch)

    def limited_predict(self, examples, batch, **options):
        shrink(batch, found.scoring)
        return predict(self, examples, batch, **options)

    monkeypatch.setattr(FutureSeedModule, "training_step", counted_step)
    monkeypatch.setattr(Learner, "loss", limited_loss)
    monkeypatch.setattr(Evaluator, "_start_answers", limited_predict)
    return found


@pytest.mark.parametrize("error", [gpu_error, cpu_error, MemoryError])
def test_a_run_goes_on_from_its_last_checkpoint_with_half_the_samples(
    tmp_path, memory, capsys, error
):
    train(tmp_path / "whole")
    memory.training, memory.from_step, memory.error = 2, 3, error
    assert train(tmp_path / "split").status == "finished"
    split = Split(TRAINING, size_before=4, size_after=2, step=2, failed_after=3)
    assert split_rows(tmp_path / "split") == [split.row()]
    assert (
        f"no_fs seed 0: {split.text()}\n".replace("no_fs", "scalar_l10") in capsys.readouterr().err
    )
    for key in ("step", "tokens", "answer_tokens", "lr"):
        assert numbers(tmp_path / "split", key) == numbers(tmp_path / "whole", key)
    whole, parts = (numbers(tmp_path / name, "loss") for name in ("whole", "split"))
    assert parts[:2] == whole[:2]
    assert parts == pytest.approx(whole, rel=1e-5)


def test_what_was_really_used_stands_in_the_records(tmp_path, memory):
    memory.training, memory.from_step = 1, 3
    train(tmp_path)
    record = read_run(tmp_path)
    result, attempts = record.result, record.provenance["attempts"]
    assert record.config["trainer"]["micro_batch_size"] is None
    assert (result["micro_batch_size"], result["eval_batch_size"]) == (1, 4)
    assert [(row["from"], row["to"]) for row in result["memory_splits"]] == [(4, 2), (2, 1)]
    assert [text for text in result["notes"] if text.startswith("out of memory in training")]
    assert [(one["micro_batch_size"], one["from_step"]) for one in attempts] == [
        (4, 0),
        (2, 2),
        (1, 2),
    ]


def test_a_split_before_the_first_checkpoint_begins_anew(tmp_path, memory):
    memory.training = 2
    assert train(tmp_path).status == "finished"
    assert split_rows(tmp_path) == [Split(TRAINING, 4, 2, step=0, failed_after=0).row()]
    assert numbers(tmp_path, "step") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("task", "num_answer"), [("hotpot", 8), ("rightcopy", 16)])
def test_a_smaller_scored_batch_gives_the_same_scores(tmp_path, memory, task, num_answer):
    train(tmp_path / "whole", f"task={task}", task__max_answer_tokens=num_answer)
    memory.scoring, memory.from_step = 1, 5
    outcome = train(tmp_path / "split", f"task={task}", task__max_answer_tokens=num_answer)
    assert outcome.status == "finished"
    result = read_run(tmp_path / "split").result
    assert (result["micro_batch_size"], result["eval_batch_size"]) == (4, 1)
    assert [row["where"] for row in result["memory_splits"]] == [EVALUATION] * 2
    tables = [read_run(tmp_path / name).predictions().to_pylist() for name in ("whole", "split")]
    for whole, part in zip(*tables, strict=True):
        assert part["loss_sum"] == pytest.approx(whole["loss_sum"], rel=1e-5)
        assert (part["example_id"], part["num_units"]) == (whole["example_id"], whole["num_units"])


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_killed_run_keeps_its_splits(tmp_path, memory, monkeypatch):
    memory.training, memory.from_step = 2, 3
    train(tmp_path / "whole")
    original = Attempt.run_to_end
    attempts = []

    def die_later(self):
        attempts.append(self)
        if len(attempts) == 2:
            memory.error = Killed
            memory.training = 0
            memory.from_step = 5
        original(self)

    monkeypatch.setattr(Attempt, "run_to_end", die_later)
    memory.step = 0
    with pytest.raises(Killed):
        train(tmp_path / "killed")
    monkeypatch.setattr(Attempt, "run_to_end", original)
    # all the memory there could be: the run stays as it began
    memory.training = 99
    assert train(tmp_path / "killed").status == "finished"
    assert split_rows(tmp_path / "killed") == split_rows(tmp_path / "whole")
    assert numbers(tmp_path / "killed", "loss") == numbers(tmp_path / "whole", "loss")
    assert read_run(tmp_path / "killed").result["micro_batch_size"] == 2


def test_where_nothing_helps_the_failure_says_so(tmp_path, memory):
    memory.training, memory.from_step = 0, 3
    outcome = train(tmp_path)
    failure = read_run(tmp_path).failure
    assert (outcome.status, outcome.exit_code, failure["class"]) == ("failed", 1, "oom")
    assert "not even one example fits into memory in training" in failure["message"]
    assert "(simulated)" in failure["message"]
    assert failure["last_step"] == 3


@pytest.mark.parametrize("override", ["control=shuffled_state", "task=hotpot_retrieval"])
def test_batch_mates_are_never_parted_in_a_run(tmp_path, memory, override):
    memory.training, memory.from_step = 3, 3
    outcome = train(tmp_path, override, task__max_answer_tokens=64)
    assert outcome.exit_code == 1
    assert "its samples need each other" in read_run(tmp_path).failure["message"]
    assert split_rows(tmp_path) == []


def test_the_failed_attempt_is_gone_before_the_next_one_is_built(tmp_path, memory, monkeypatch):
    original = Attempt.__init__
    parts, alive = [], []

    def watched(self, *args, **options):
        alive.append(sum(part() is not None for part in parts))
        original(self, *args, **options)
        model = self.module.model
        parts.extend(map(weakref.ref, (self, self.module, self.trainer, model, model.emb.weight)))

    monkeypatch.setattr(Attempt, "__init__", watched)
    gc.disable()  # only what the runner itself frees counts
    try:
        memory.training, memory.from_step = 1, 3
        train(tmp_path)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_other_errors_end_the_run_at_once(tmp_path, memory):
    memory.training, memory.error = 2, ZeroDivisionError
    assert train(tmp_path).exit_code == 1
    assert read_run(tmp_path).failure["class"] == "error"


@pytest.mark.parametrize(("size", "half"), [(2, 1), (5, 3), (4, 2)])
def test_halves_are_rounded_up(size, half):
    config = tiny_config(budget__batch_size=size, budget__eval_batch_size=size)
    for where in (TRAINING, EVALUATION):
        assert halve(config, where=where, has_started=True) == half


def test_before_a_start_a_shuffled_batch_may_be_parted_for_all_arms():
    config = tiny_config("control=shuffled_state")
    assert halve(config, where=TRAINING, has_started=False) == 2
    with pytest.raises(UserError, match="need each other"):
        halve(config, where=TRAINING, has_started=True)


def test_sizes_follow_the_last_split():
    splits = [
        Split(TRAINING, 4, 2, 0, 0),
        Split(EVALUATION, 4, 3, 0, 0),
        Split(TRAINING, 2, 1, 4, 5),
    ]
    config = with_splits(tiny_config(), splits)
    assert (config.trainer.micro_batch_size, config.budget.eval_batch_size) == (1, 3)
    assert config.budget.batch_size == 4
    restored = replace(config.trainer, micro_batch_size=None)
    assert restored == tiny_config().trainer
