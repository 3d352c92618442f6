"""Matrices cast once a step: the digits of autocast, which casts them one by one."""

from collections.abc import Callable

import pytest
import torch

from fseed.records import read_run
from fseed.tasks.base import Objective
from fseed.training import module as module_module
from fseed.training.cast_weights import CastWeights, reads_once
from fseed.training.objectives import Learner
from tests.models.build import build_batch, build_future_seed, build_random_model
from tests.training.build import tiny_config
from tests.training.static_runs import (
    ReplayRecorder,
    finish,
    static_plan,
    use_static_steps,
    weights_of,
)
from tests.training.test_runner import stable_rows

BF16 = {"trainer__precision": "bf16", "budget__steps": 4, "alpha__lr": 1e-3}
ARMS = ["fs=no_fs", "fs=scalar_l10", "control=repeat_prompt", "task=rightcopy"]
MICRO = {"trainer__micro_batch_size": 2}


def build_learner(objective: Objective = Objective.answer) -> Learner:
    fs = build_future_seed(gate="head", alpha_init=0.5, detach=False)
    return Learner(build_random_model(dtype=torch.float32), fs, objective=objective)


@pytest.mark.parametrize("values", [{}, pytest.param(MICRO, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arm", [ARMS[1], *(pytest.param(a, marks=pytest.mark.slow) for a in (ARMS[0], *ARMS[2:]))]
)
def test_a_run_with_copies_is_one_without_bit_for_bit(tmp_path, monkeypatch, arm, values):
    values = BF16 | values | ({"task__max_answer_tokens": 16} if arm == "task=rightcopy" else {})
    use_static_steps(monkeypatch, "graph")
    refresh, casts = CastWeights.refresh, []
    monkeypatch.setattr(CastWeights, "refresh", lambda self: (casts.append(1), refresh(self)))
    with_copies = weights_of(finish(static_plan(tmp_path / "copies", arm, **values)))
    monkeypatch.setattr(module_module, "reads_once", lambda *_: False)
    without = weights_of(finish(static_plan(tmp_path / "autocast", arm, **values)))
    assert len(casts) == 4
    assert stable_rows(tmp_path / "copies") == stable_rows(tmp_path / "autocast")
    assert [n for n, value in without.items() if not torch.equal(value, with_copies[n])] == []


def test_every_matrix_gets_the_gradient_that_autocast_gives_it():
    batch, found = build_batch([9, 5, 7], [4, 2, 3]), []
    for copied in (False, True):
        learner = build_learner()
        cast = CastWeights(learner)
        for _ in range(2):  # two parts of a batch add up in float32
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                loss = cast.loss(batch) if copied else learner(batch)
            loss.backward()
            if copied:
                cast.collect()
        found.append({name: p.grad for name, p in learner.named_parameters()})
    plain, copied = found
    assert [n for n in plain if plain[n] is None or not torch.equal(plain[n], copied[n])] == []
    assert all(gradient.dtype == torch.float32 for gradient in copied.values())


def test_a_step_that_ran_out_of_memory_is_done_anew(tmp_path, monkeypatch):
    """What the pass that broke off has left in the copies is no part of it."""
    backward = torch.Tensor.backward

    def backward_and_fail(*args, **kwargs) -> None:
        backward(*args, **kwargs)
        raise torch.OutOfMemoryError("CUDA out of memory")

    class Full:
        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            with monkeypatch.context() as patch:
                patch.setattr(torch.Tensor, "backward", backward_and_fail)
                function()
            raise AssertionError("nothing was out of memory")

    found = []
    for mode, recorder in (("eager", ReplayRecorder), ("graph", Full)):
        use_static_steps(monkeypatch, mode, recorder)
        values = BF16 | {"budget__steps": 6, "data__num_train": 8}
        found.append(weights_of(finish(static_plan(tmp_path / mode, ARMS[1], **values))))
    facts = read_run(tmp_path / "graph").provenance["step"]
    assert "memory" in facts["reason"]
    assert [n for n, value in found[0].items() if not torch.equal(value, found[1][n])] == []


def test_a_matrix_that_is_not_read_is_told():
    learner = build_learner()
    cast, batch = CastWeights(learner), build_batch([9, 5], [4, 2])
    with torch.autocast("cpu", torch.bfloat16):
        cast.loss(batch)
    with pytest.raises(RuntimeError, match=r"no gradient of model\.blocks\.0\.att\.w1, .*not read"):
        cast.collect()


def test_what_is_copied_is_what_autocast_casts():
    model = build_random_model()
    names = {name.split(".", 2)[2] for name in model.matrices()}
    layers = ("att.receptance", "att.key", "att.value", "att.output", "ffn.key", "ffn.value")
    low_rank = {f"att.{letter}{i}" for letter in "wavg" for i in (1, 2)}
    assert names == {f"{layer}.weight" for layer in layers} | low_rank


def test_a_step_reads_the_matrices_as_they_are_now():
    learner = build_learner()
    cast, batch = CastWeights(learner), build_batch([9, 5], [4, 2])
    with torch.autocast("cpu", torch.bfloat16):
        before = cast.loss(batch)
        with torch.no_grad():
            for matrix in learner.model.matrices().values():
                matrix.mul_(1.5)
        assert torch.equal(cast.loss(batch), before)
        cast.refresh()
        assert torch.equal(cast.loss(batch), learner(batch))
        assert not torch.equal(learner(batch), before)


@pytest.mark.parametrize(
    ("override", "values", "expected"),
    [
        ("fs=scalar_l10", {}, True),
        ("fs=no_fs", {}, True),
        ("control=learned_state", {}, True),
        ("fs=scalar_l10", {"trainer__precision": "float32"}, False),
        ("fs=scalar_l10", {"trainer__activation_checkpointing": True}, False),
        ("control=same_layer", {}, False),
    ],
)
def test_only_where_a_pass_reads_every_matrix_once(override, values, expected):
    config = tiny_config(override, **({"trainer__precision": "bf16"} | values))
    assert reads_once(config, build_learner()) is expected


def test_retrieval_trains_no_matrix():
    config = tiny_config("fs=scalar_l10", trainer__precision="bf16")
    assert not reads_once(config, build_learner(Objective.retrieval))
