from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
from task_helpers import encoded

from fseed.tasks import example_table
from fseed.tasks.base import EncodedExample
from fseed.tasks.example_table import from_batch, to_batch

PLAIN = encoded("yes")
FULL = EncodedExample(
    example_id="\ud800 half a letter",
    kind="",
    prompt_ids=[65_535, 0, 7],
    answer_ids=[3, 4],
    answers=("one", "", "zwei \u00fc"),
    is_cut=True,
    lost_gold=True,
    units=(0, 1),
    label_ids=(3, 4),
    mask_positions=(0, 2),
    copied="",
    copied_ids=(),
    reference='{"a": 1}',
)
EXAMPLES = [
    PLAIN,
    FULL,
    replace(PLAIN, prompt_ids=[]),
    replace(FULL, copied=None, copied_ids=(-1,)),
]


def test_examples_come_back_equal_in_value_and_type() -> None:
    restored = from_batch(to_batch(EXAMPLES))
    assert restored == EXAMPLES
    for example in restored:
        for field in fields(EncodedExample):
            wanted = [type(getattr(original, field.name)) for original in EXAMPLES]
            assert type(getattr(example, field.name)) in wanted, field.name
        assert all(type(token) is int for token in example.prompt_ids)
    # none is none and empty is empty
    assert [example.copied_ids for example in restored] == [None, (), None, (-1,)]


def test_no_examples_are_a_batch_too() -> None:
    assert from_batch(to_batch([])) == []


def test_equal_numbers_are_one_object() -> None:
    first, second = from_batch(to_batch([replace(PLAIN, prompt_ids=[60_000, 60_000])] * 2))
    assert first.prompt_ids[0] is first.prompt_ids[1] is second.prompt_ids[0]


def test_numbers_far_apart_are_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_table, "MAX_SHARED_NUMBERS", 10)
    wide = [replace(PLAIN, prompt_ids=[-5, 2**31 - 1, 0])]
    assert from_batch(to_batch(wide)) == wide


def test_a_number_beyond_int32_is_an_error() -> None:
    with pytest.raises((OverflowError, pa.ArrowInvalid)):
        to_batch([replace(PLAIN, prompt_ids=[2**31])])


def test_order_and_number_of_many_examples_are_kept() -> None:
    rng = np.random.default_rng([0, 3])
    many = [
        replace(PLAIN, example_id=str(i), prompt_ids=rng.integers(0, 9, rng.integers(5)).tolist())
        for i in range(300)
    ]
    assert from_batch(to_batch(many)) == many
