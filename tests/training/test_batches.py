from itertools import islice

import pytest
import torch

from fseed.errors import UserError
from fseed.tasks.base import EncodedExample
from fseed.training.batches import (
    StepKeyedBatches,
    collate,
    evaluation_batches,
    steps_for_tokens,
)


def build_examples(count: int) -> list[EncodedExample]:
    return [
        EncodedExample(
            example_id=f"e{i:03d}",
            kind="bridge",
            prompt_ids=[i % 250 + 1] * (3 + i * 7 % 40),
            answer_ids=[1] * (1 + i % 3) + [0],
            answers=("x",),
            prompt_text="",
            is_cut=False,
            lost_gold=False,
        )
        for i in range(count)
    ]


def build_batches(**options) -> StepKeyedBatches:
    return StepKeyedBatches(build_examples(50), batch_size=4, **({"seed": 0} | options))


def test_an_epoch_visits_every_example_at_most_once():
    batches = build_batches()
    seen = [i for step in range(batches.steps_per_epoch) for i in batches.indices(step)]
    assert batches.steps_per_epoch == 12
    assert len(set(seen)) == 48


def test_a_batch_depends_on_seed_and_step_alone():
    forward = [build_batches().indices(step).tolist() for step in range(30)]
    one = build_batches()
    backward = [one.indices(step).tolist() for step in reversed(range(30))][::-1]
    assert forward == backward
    assert forward != [build_batches(seed=1).indices(step).tolist() for step in range(30)]
    assert forward[:12] != forward[12:24]  # another order in the next epoch


def test_iteration_starts_at_the_given_step():
    whole = list(islice(iter(build_batches()), 9))
    rest = list(islice(iter(build_batches(start_step=5)), 4))
    for expected, actual in zip(whole[5:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def test_buckets_pad_less_than_random_batches():
    def pads(groups) -> int:
        prompts = [[len(e.prompt_ids) for e in group] for group in groups]
        return sum(max(lengths) * len(lengths) - sum(lengths) for lengths in prompts)

    examples, batches = build_examples(50), build_batches()
    bucketed = [[examples[i] for i in batches.indices(step)] for step in range(12)]
    as_given = [examples[i : i + 4] for i in range(0, 48, 4)]
    assert pads(bucketed) < pads(as_given) / 2


def test_collate_pads_on_the_right_and_repeats_the_prompt():
    examples = build_examples(2)
    batch = collate(examples, repeat_prompt=True)
    assert batch.prompt_lengths.tolist() == [2 * len(e.prompt_ids) for e in examples]
    assert batch.prompt[0, : 2 * len(examples[0].prompt_ids)].tolist() == examples[0].prompt_ids * 2
    assert batch.prompt[0, 2 * len(examples[0].prompt_ids) :].sum() == 0
    assert batch.answer_mask.tolist() == [[True, True, False], [True, True, True]]


def test_evaluation_reads_every_example_once_and_leaves_none_alone():
    groups = evaluation_batches(build_examples(33), batch_size=16)
    assert sorted(e.example_id for g in groups for e in g) == [f"e{i:03d}" for i in range(33)]
    assert min(len(g) for g in groups) > 1
    assert max(len(g) for g in groups) <= 16


def test_token_budget_rounds_up_to_a_whole_step():
    batches = build_batches()
    first, second = batches.tokens(0), batches.tokens(1)
    assert steps_for_tokens(batches, tokens=first) == 1
    assert steps_for_tokens(batches, tokens=first + 1) == 2
    assert steps_for_tokens(batches, tokens=first + second) == 2


def test_too_few_examples_for_one_batch_is_an_error():
    with pytest.raises(UserError, match=r"batch_size=60 .* found 50; lower budget.batch_size"):
        StepKeyedBatches(build_examples(50), seed=0, batch_size=60)
