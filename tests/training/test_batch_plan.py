from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fseed.errors import UserError
from fseed.tasks.base import EncodedExample
from fseed.training.batch_plan import (
    MAX_PADDING,
    MIN_POOL_BATCHES,
    BatchPlan,
    cut_pool,
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
        )
        for i in range(count)
    ]


def build_plan(*, seed: int = 0) -> BatchPlan:
    return BatchPlan(build_examples(50), seed=seed, batch_size=4)


def test_an_epoch_visits_every_example_at_most_once():
    plan = build_plan()
    seen = [i for step in range(plan.steps_per_epoch) for i in plan.indices(step)]
    assert plan.steps_per_epoch == 12
    assert len(set(seen)) == 48


def test_a_batch_depends_on_seed_and_step_alone():
    forward = [build_plan().indices(step).tolist() for step in range(30)]
    one = build_plan()
    backward = [one.indices(step).tolist() for step in reversed(range(30))][::-1]
    assert forward == backward
    assert forward != [build_plan(seed=1).indices(step).tolist() for step in range(30)]
    assert forward[:12] != forward[12:24]  # another order in the next epoch


def share_of_pads(groups: Sequence[Sequence[EncodedExample]]) -> float:
    processed = real = 0
    for group in groups:
        for part in ([e.prompt_ids for e in group], [e.answer_ids for e in group]):
            processed += len(part) * max(len(ids) for ids in part)
            real += sum(len(ids) for ids in part)
    return processed / real - 1


def build_uneven(count: int) -> list[EncodedExample]:
    """Return examples whose prompt and answer lengths vary widely, apart from each other."""
    rng = np.random.default_rng([0, 5])
    return [
        replace(example, prompt_ids=[1] * prompt, answer_ids=[1] * answer)
        for example, prompt, answer in zip(
            build_examples(count),
            rng.integers(50, 500, count).tolist(),
            rng.integers(5, 300, count).tolist(),
            strict=True,
        )
    ]


def test_overhead_is_what_the_batches_of_the_first_epoch_pad():
    plan = BatchPlan(build_uneven(100), seed=3, batch_size=7)
    groups = [plan.chosen(step) for step in range(plan.steps_per_epoch)]
    assert plan.padding_overhead() == pytest.approx(share_of_pads(groups))


def test_pools_grow_until_pads_are_few():
    examples = build_uneven(2000)
    as_given = [examples[start : start + 4] for start in range(0, 2000, 4)]
    assert share_of_pads(as_given) > 0.4
    plan = BatchPlan(examples, seed=0, batch_size=4)
    assert MIN_POOL_BATCHES < plan.pool_batches < plan.steps_per_epoch
    assert plan.padding_overhead() <= MAX_PADDING
    # lengths that are nearly equal need no larger pool
    even = [replace(example, prompt_ids=[1] * 200, answer_ids=[1] * 9) for example in examples]
    assert BatchPlan(even, seed=0, batch_size=4).pool_batches == MIN_POOL_BATCHES


def test_a_pool_is_the_whole_epoch_at_most():
    plan = BatchPlan(build_uneven(60), seed=0, batch_size=16)
    assert plan.pool_batches >= plan.steps_per_epoch == 3
    assert sorted(i for step in range(3) for i in plan.indices(step)) == sorted(
        {i for step in range(3) for i in plan.indices(step)}
    )


def test_cutting_a_pool_keeps_every_example_and_separates_lengths():
    lengths = np.array([[10, 1], [10, 90], [11, 1], [11, 90], [10, 2], [11, 91]])
    batches = cut_pool(np.array([5, 4, 3, 2, 1, 0]), lengths, batch_size=3)
    assert sorted(sorted(batch.tolist()) for batch in batches) == [[0, 2, 4], [1, 3, 5]]


def test_batch_mates_change_from_epoch_to_epoch():
    plan = BatchPlan(build_uneven(2000), seed=0, batch_size=4)
    assert plan.pool_batches < plan.steps_per_epoch
    pairs = []
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        batches = [plan.indices(step).tolist() for step in steps]
        pairs.append({(a, b) for batch in batches for a in batch for b in batch if a < b})
    assert len(pairs[0] & pairs[1]) < len(pairs[0]) / 4


def test_evaluation_reads_every_example_once_and_leaves_none_alone():
    groups = evaluation_batches(build_examples(33), batch_size=16)
    assert sorted(e.example_id for g in groups for e in g) == [f"e{i:03d}" for i in range(33)]
    assert min(len(g) for g in groups) > 1
    assert max(len(g) for g in groups) <= 16


def test_token_budget_rounds_up_to_a_whole_step():
    plan = build_plan()
    first, second = plan.tokens(0), plan.tokens(1)
    assert steps_for_tokens(plan, tokens=first) == 1
    assert steps_for_tokens(plan, tokens=first + 1) == 2
    assert steps_for_tokens(plan, tokens=first + second) == 2


def test_too_few_examples_for_one_batch_is_an_error():
    with pytest.raises(UserError, match=r"batch_size=60 .* found 50; lower budget.batch_size"):
        BatchPlan(build_examples(50), seed=0, batch_size=60)


def test_overhead_counts_the_pads_of_prompts_and_answers():
    def example(name: str, prompt: int, answer: int) -> EncodedExample:
        return EncodedExample(
            example_id=name,
            kind="only",
            prompt_ids=[1] * prompt,
            answer_ids=[1] * answer,
            answers=("x",),
        )

    plan = BatchPlan([example("a", 10, 2), example("b", 8, 4)], seed=0, batch_size=2)
    assert plan.padding_overhead() == pytest.approx((20 + 8) / 24 - 1)


def test_the_answer_of_a_fill_is_read_once():
    fill = EncodedExample(
        example_id="a",
        kind="only",
        prompt_ids=[1, 2, 3],
        answer_ids=[2],
        answers=("x",),
        mask_positions=(1,),
    )
    assert BatchPlan([fill], seed=0, batch_size=1).tokens(0) == 3
