"""Padding to buckets: few shapes, and the same loss and gradients."""

import pytest
import torch

from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import Objective
from fseed.training.batches import collate
from fseed.training.static_batch import (
    GRAIN,
    NUM_BUCKETS,
    Buckets,
    find_buckets,
    pad_batch,
    shape_key,
    static_parts,
)
from tests.training.build import build_example
from tests.training.test_batch_plan import build_examples
from tests.training.test_micro_batches import BATCH, build_learner, fill_batch

BUCKETS = Buckets(longest_prompt=100, longest_answer=40)


@pytest.mark.parametrize(
    ("prompt", "answer"), [(2048, 32), (4000, 400), (17, 3), (33, 900), (1, 1)]
)
def test_lengths_fall_into_few_buckets_that_hold_them(prompt, answer):
    buckets = Buckets(longest_prompt=prompt, longest_answer=answer)
    prompts = {length: buckets.prompt(length) for length in range(1, prompt + 1)}
    answers = {length: buckets.answer(length) for length in range(1, answer + 1)}
    for padded in (prompts, answers):
        assert all(length <= bucket for length, bucket in padded.items())
        # the answer of one token is read in no pass at all
        assert len(set(padded.values()) - {1}) <= NUM_BUCKETS
    assert all(bucket % GRAIN == 0 for bucket in prompts.values())
    assert all(bucket % GRAIN == 1 for bucket in answers.values())
    assert max(prompts.values()) - prompt < GRAIN


def test_an_answer_of_one_token_needs_no_second_pass():
    assert BUCKETS.answer(1) == 1


def test_buckets_are_those_of_the_longest_texts():
    examples = build_examples(30)
    longest = max(len(e.prompt_ids) for e in examples)
    once, twice = find_buckets(examples), find_buckets(examples, repeat_prompt=True)
    assert (once.longest_prompt, twice.longest_prompt) == (longest, 2 * longest)
    assert once.longest_answer == twice.longest_answer == max(len(e.answer_ids) for e in examples)
    question = [build_example("a", "abc", "de", answer_ids=[1, 2], has_end=False)]
    assert find_buckets(question, repeat_prompt=True).longest_answer == 4


def test_rows_are_every_position_once_and_targets_those_that_count():
    padded = pad_batch(BATCH, BUCKETS)
    assert padded.prompt.shape == (5, 16)
    assert padded.answer.shape == (5, 17)
    assert padded.rows is not None
    assert padded.row_targets is not None
    assert padded.num_targets is not None
    assert padded.rows.tolist() == list(range(5 * 17))
    counts = padded.row_targets >= 0
    assert torch.equal(padded.row_targets[counts], BATCH.answer[BATCH.answer_mask])
    assert padded.num_targets.item() == 19
    assert padded.noise_keys == BATCH.noise_keys
    assert (padded.num_tokens, shape_key(padded)[0]) == (BATCH.num_tokens, (5, 16))


def test_texts_of_similar_lengths_share_a_shape():
    batches = [collate([build_example("a", "x" * n, "y")]) for n in (2, 16, 17)]
    keys = [shape_key(pad_batch(batch, BUCKETS)) for batch in batches]
    assert keys[0] == keys[1] != keys[2]


def gradients(learner, batches: list[PromptAnswer]) -> tuple[float, dict[str, torch.Tensor]]:
    learner.zero_grad()
    losses = [learner(batch) for batch in batches]
    for loss in losses:
        loss.backward()
    found = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    return sum(loss.item() for loss in losses), found


@pytest.mark.parametrize("size", [None, 2, 1])
@pytest.mark.parametrize("control", ["none", "same_layer", "learned_state"])
def test_padded_parts_have_the_loss_and_gradients_of_the_batch(control, size):
    learner = build_learner(Objective.answer, control=control)
    parts = static_parts(pad_batch(BATCH, BUCKETS), size=size)
    assert len(parts) == (1 if size is None else -(-5 // size))
    check_equal(gradients(learner, [BATCH]), gradients(learner, parts))


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("repeat_prompt", [False, True])
def test_padded_fills_have_the_loss_and_gradients_of_the_batch(repeat_prompt, size):
    learner, batch = build_learner(Objective.fill), fill_batch(repeat_prompt=repeat_prompt)
    parts = static_parts(pad_batch(batch, BUCKETS), size=size)
    check_equal(gradients(learner, [batch]), gradients(learner, parts))


def check_equal(expected, found) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-6, atol=1e-9, msg=name)
