from dataclasses import dataclass, replace

import pytest

from fseed.errors import UserError
from fseed.tasks.base import NoOptions
from fseed.tasks.hotpot import DISTRACTOR, HOTPOT
from fseed.tasks.options import parse_options


@dataclass(frozen=True)
class Options:
    num_notes: int = 3
    share: float = 0.5
    dataset: str = "plain"
    is_split: bool = False
    lengths: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if not 0 <= self.num_notes <= 9:
            raise ValueError(f"num_notes={self.num_notes}: must be 0..9")


TASK = replace(
    HOTPOT, name="some", options=Options, datasets={"plain": DISTRACTOR, "hard": DISTRACTOR}
)


def message_of(given, *, task=TASK):
    with pytest.raises(UserError) as caught:
        parse_options(task, given)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_defaults_are_filled_in():
    assert parse_options(TASK, {}) == Options()
    assert parse_options(HOTPOT, {}) == NoOptions()


def test_given_values_replace_the_defaults():
    given = {"num_notes": 0, "share": 0.25, "dataset": "hard", "is_split": True, "lengths": [4]}
    assert parse_options(TASK, given) == Options(0, 0.25, "hard", True, (4,))


def test_one_value_written_in_two_ways_is_one_option():
    for one, other in [({"share": 1}, {"share": 1.0}), ({"lengths": []}, {"lengths": ()})]:
        left, right = parse_options(TASK, one), parse_options(TASK, other)
        assert repr(left) == repr(right)
        assert hash(left) == hash(right)


def test_an_unknown_option_offers_near_names():
    assert message_of({"num_note": 3}) == (
        "task.options.num_note=3: unknown for some; did you mean num_notes?\n"
        "options: num_notes, share, dataset, is_split, lengths"
    )


def test_a_task_without_options_says_so():
    message = message_of({"num_notes": 3}, task=HOTPOT)
    assert message == "task.options.num_notes=3: unknown for hotpot\nit has no options"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"num_notes": "3"}, "a whole number"),
        ({"num_notes": 3.0}, "a whole number"),
        ({"num_notes": True}, "a whole number"),
        ({"num_notes": None}, "a whole number"),
        ({"share": "x"}, "a number"),
        ({"share": False}, "a number"),
        ({"dataset": 3}, "a word"),
        ({"is_split": 1}, "true or false"),
        ({"lengths": 4}, "a list of whole numbers"),
        ({"lengths": [4, "a"]}, "a list of whole numbers"),
        ({"lengths": "12"}, "a list of whole numbers"),
    ],
)
def test_a_value_of_another_type(given, wanted):
    (pair,) = given.items()
    assert message_of(given) == f"task.options.{pair[0]}={pair[1]}: must be {wanted}"


def test_a_value_out_of_range_says_the_range():
    assert message_of({"num_notes": 17}) == "some: task.options.num_notes=17: must be 0..9"


def test_an_unknown_data_set_offers_the_known_ones():
    assert message_of({"dataset": "plan"}) == (
        "task.options.dataset=plan: unknown for some; did you mean plain?\ndata sets: plain, hard"
    )


def test_the_option_names_the_data_set():
    other = replace(DISTRACTOR, folder="other")
    task = replace(TASK, datasets={"plain": DISTRACTOR, "hard": other})
    assert task.dataset(parse_options(task, {})).folder == "hotpotqa"
    assert task.dataset(parse_options(task, {"dataset": "hard"})).folder == "other"
    assert replace(task, options=NoOptions).dataset(NoOptions()).folder == "hotpotqa"
