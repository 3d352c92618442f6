"""Micro-batches: parts of a batch whose losses and gradients add up to those of the whole."""

import pytest
import torch

from fseed.models.prompt_answer import PromptAnswer
from fseed.records import read_run
from fseed.tasks.base import Objective
from fseed.training.batches import collate
from fseed.training.distributed import Ranks
from fseed.training.micro_batches import split_batch, take_samples
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from tests.models.build import build_batch, build_future_seed, build_random_model
from tests.training.build import build_example, tiny_config
from tests.training.test_runner import predictions, stable_rows, train

# answers of very different lengths: a mean of means would be far off
BATCH = build_batch([9, 5, 7, 12, 3], [4, 2, 3, 9, 1])._replace(noise_keys=(5, 6, 7, 8, 9))


def fill_batch(*, repeat_prompt: bool) -> PromptAnswer:
    texts = ["ab_d_", "_bc", "a__de_g", "abcd_"]
    examples = [
        build_example(
            str(i), text, "x" * text.count("_"),
            answer_ids=[40 + i] * text.count("_"), has_end=False,
            mask_positions=tuple(p for p, letter in enumerate(text) if letter == "_"),
        )
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return collate(examples, repeat_prompt=repeat_prompt)


def test_parts_hold_every_sample_once_without_foreign_pads():
    parts = split_batch(BATCH, size=2)
    assert [part.prompt.shape for part, _ in parts] == [(2, 9), (2, 12), (1, 3)]
    assert [part.answer.shape for part, _ in parts] == [(2, 4), (2, 9), (1, 1)]
    assert [part.noise_keys for part, _ in parts] == [(5, 6), (7, 8), (9,)]
    assert [share for _, share in parts] == [6 / 19, 12 / 19, 1 / 19]
    lengths = torch.cat([part.prompt_lengths for part, _ in parts])
    assert torch.equal(lengths, BATCH.prompt_lengths)


@pytest.mark.parametrize("size", [None, 5, 6])
def test_the_whole_batch_is_left_as_it_is(size):
    ((part, share),) = split_batch(BATCH, size=size)
    assert part is BATCH
    assert share == 1


@pytest.mark.parametrize(("world", "size"), [(2, None), (3, None), (2, 1), (3, 1), (5, 2)])
def test_ranks_take_every_sample_once_and_weigh_them_as_one_device_does(world, size):
    shares = [split_batch(BATCH, size=size, ranks=Ranks(rank, world)) for rank in range(world)]
    taken = [
        key for parts in shares for part, weight in parts if weight for key in part.noise_keys or ()
    ]
    assert taken == [5, 6, 7, 8, 9]
    # gradients of ranks are averaged
    weights = [weight for parts in shares for _, weight in parts]
    assert sum(weights) / world == pytest.approx(1)
    num_tokens = int(shares[0][0][0].answer_lengths.sum())
    assert weights[0] == pytest.approx(num_tokens / 19 * world)
    # sharded layers are called once a part, so equally often on all ranks
    assert len({len(parts) for parts in shares}) == 1


def test_parts_of_one_rank_are_those_of_a_run_without_ranks():
    for (part, weight), (other, share) in zip(
        split_batch(BATCH, size=2), split_batch(BATCH, size=2, ranks=Ranks(0, 1)), strict=True
    ):
        assert weight == share
        assert torch.equal(part.prompt, other.prompt)


def test_answers_of_one_token_stay_as_short_as_they_are():
    batch = build_batch([4, 5], [1, 1])
    ((part, _),) = split_batch(batch, size=None, ranks=Ranks(1, 2))
    assert part.answer.shape == (1, 1)


@pytest.mark.parametrize("repeat_prompt", [False, True])
def test_masked_positions_follow_their_samples(repeat_prompt):
    batch = fill_batch(repeat_prompt=repeat_prompt)
    for i in range(4):
        part = take_samples(batch, slice(i, i + 1))
        places = part.mask_positions
        assert places is not None
        copies = 2 if repeat_prompt else 1
        assert places.shape == (1, copies * int(part.answer_lengths[0]))
        assert torch.equal(part.prompt[0, places[0]], torch.full_like(places[0], ord("_")))


def gradients(learner: Learner, batch: PromptAnswer, *, size: int | None):
    """Return loss and gradients as a training step leaves them, in float64."""
    config = tiny_config(trainer__micro_batch_size=size, optim__lr=1e-3)
    module = FutureSeedModule(config, learner).double()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_plain_optimizer", lambda: optimizer)
        for parameter in module.parameters():  # left over from the step before
            parameter.grad = torch.ones_like(parameter)
        step = module.training_step(batch, 0)
        step["loss"].backward()
    named = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return step["batch_loss"], named


def build_learner(objective: Objective, **options) -> Learner:
    model = build_random_model()
    if objective is Objective.fill:
        model = build_random_model(type(model.shape)(**(vars(model.shape) | {"vocab_size": 256})))
    future_seed = build_future_seed(gate="inputgate", alpha_init=0.5, detach=False, **options)
    if future_seed.learned_state is not None:
        future_seed.learned_state.initialize(seed=0)
    return Learner(model, future_seed.double(), objective=objective).double()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("control", ["none", "random_state", "learned_state", "same_layer"])
def test_loss_and_gradients_equal_those_of_the_whole_batch(control, size):
    learner = build_learner(Objective.answer, control=control)
    whole_loss, whole = gradients(learner, BATCH, size=None)
    loss, found = gradients(learner, BATCH, size=size)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-12, atol=0)
    assert found.keys() == whole.keys()
    assert len(found) > 50
    for name, expected in whole.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("repeat_prompt", [False, True])
def test_fills_equal_the_whole_batch(repeat_prompt):
    learner, batch = build_learner(Objective.fill), fill_batch(repeat_prompt=repeat_prompt)
    whole_loss, whole = gradients(learner, batch, size=None)
    loss, found = gradients(learner, batch, size=3)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-12, atol=0)
    assert "learner.task_head.weight" in found
    for name, expected in whole.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-14, msg=name)


def test_a_mean_of_means_would_be_another_loss():
    learner = build_learner(Objective.answer)
    parts = split_batch(BATCH, size=2)
    with torch.no_grad():
        wrong = sum(float(learner.loss(part)) for part, _ in parts) / len(parts)
        assert abs(wrong - float(learner.loss(BATCH))) > 1e-3


@pytest.mark.parametrize("overrides", [(), ("task=rightcopy",), ("control=same_layer",)])
def test_a_run_in_micro_batches_reads_and_learns_the_same(tmp_path, overrides):
    values = {"task__max_answer_tokens": 16} if "task=rightcopy" in overrides else {}
    train(tmp_path / "whole", *overrides, **values)
    train(tmp_path / "parts", *overrides, **values, trainer__micro_batch_size=3)
    whole, parts = (stable_rows(tmp_path / name) for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        assert one.get("tokens") == other.get("tokens")
        for key in ("loss", "grad_norm"):
            assert one.get(key, 0) == pytest.approx(other.get(key, 0), rel=2e-4)
    scores = [read_run(tmp_path / name).result for name in ("whole", "parts")]
    losses = [score["evaluations"][-1]["metrics"]["loss"]["value"] for score in scores if score]
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)
    assert len(predictions(tmp_path / "parts")) == 14


def test_bf16_micro_batches_keep_the_backward_pass_out_of_autocast(tmp_path, monkeypatch):
    seen, original = [], torch.Tensor.backward

    def backward(self, *args, **kwargs):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    train(tmp_path, trainer__precision="bf16", trainer__micro_batch_size=2, budget__steps=1)
    assert seen == [False, False]


def test_a_bf16_run_in_micro_batches_learns_the_same(tmp_path):
    for size in (None, 1):
        train(tmp_path / str(size), trainer__precision="bf16", trainer__micro_batch_size=size)
    whole, parts = (stable_rows(tmp_path / name) for name in ("None", "1"))
    for one, other in zip(whole, parts, strict=True):
        assert one.get("loss", 0) == pytest.approx(other.get("loss", 0), rel=1e-2)
        assert one.get("grad_norm", 0) == pytest.approx(other.get("grad_norm", 0), rel=2e-2)


def test_nothing_else_clears_the_gradients():
    module = FutureSeedModule(tiny_config(), build_learner(Objective.answer))
    parameter = next(module.parameters())
    parameter.grad = torch.ones_like(parameter)
    module.optimizer_zero_grad(0, 0, torch.optim.SGD([parameter], lr=0.1))
    assert parameter.grad is not None
