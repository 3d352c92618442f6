from itertools import islice

import torch

from fseed.tasks.base import EncodedExample
from fseed.training.batch_plan import BatchPlan
from fseed.training.batches import StepKeyedBatches, collate
from tests.training.test_batch_plan import build_examples


def build_batches(*, start_step: int = 0) -> StepKeyedBatches:
    batches = StepKeyedBatches(BatchPlan(build_examples(50), seed=0, batch_size=4))
    batches.start_step = start_step
    return batches


def test_iteration_starts_at_the_given_step():
    whole = list(islice(iter(build_batches()), 9))
    rest = list(islice(iter(build_batches(start_step=5)), 4))
    for expected, actual in zip(whole[5:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected[:4], actual[:4], strict=True))


def test_collate_pads_on_the_right_and_repeats_the_prompt():
    examples = build_examples(2)
    batch = collate(examples, repeat_prompt=True)
    assert batch.prompt_lengths.tolist() == [2 * len(e.prompt_ids) for e in examples]
    assert batch.prompt[0, : 2 * len(examples[0].prompt_ids)].tolist() == examples[0].prompt_ids * 2
    assert batch.prompt[0, 2 * len(examples[0].prompt_ids) :].sum() == 0
    assert batch.answer_mask.tolist() == [[True, True, False], [True, True, True]]


def test_a_repeated_prompt_is_masked_twice():
    fill = EncodedExample(
        example_id="a",
        kind="only",
        prompt_ids=[5, 6, 7],
        answer_ids=[1, 2],
        answers=("x",),
        mask_positions=(0, 2),
    )
    once, twice = collate([fill]), collate([fill], repeat_prompt=True)
    assert once.mask_positions is not None
    assert twice.mask_positions is not None
    assert once.mask_positions.tolist() == [[0, 2]]
    assert twice.mask_positions.tolist() == [[0, 2, 3, 5]]
    assert (once.num_tokens, twice.num_tokens) == (3, 6)
    assert torch.equal(once.answer, twice.answer)


def test_a_repeated_question_is_read_twice_in_retrieval():
    pair = EncodedExample(
        example_id="a",
        kind="only",
        prompt_ids=[5, 6, 7],
        answer_ids=[1, 2],
        answers=("x",),
        has_end=False,
    )
    assert collate([pair], repeat_prompt=True).answer.tolist() == [[1, 2, 1, 2]]
