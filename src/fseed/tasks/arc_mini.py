"""Generated ARC rows: options with several attributes, and a question that names one of them.

An option is a thing with a colour and an owner (``Bako's red lamp``); colours, things and owners
of the options are all different. The question names one of the three (``Which one is red?``), so
that it can be answered from the prompt alone and before the question every option is possible.

Twenty-four rows in a row have, in shuffled order, every place of the answer among three, four and
five options once with the labels A to E and once with 1 to 5. Attributes follow each other in
shuffled blocks of three.

Row ``i`` of a split depends on the version, the seed, the split and ``i`` alone. Owners are
disjoint between the splits. A change that moves any row needs a new ``MINI_VERSION``.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from fseed.tasks.hotpot_mini import people_names
from fseed.tasks.mini_words import COLOURS, THINGS, draw_words, keyed_generator, shuffled_place

MINI_VERSION = 1

LABELS = ("ABCDE", "12345")
NUM_OPTIONS = (3, 4, 5)

_QUESTIONS = (
    "Which one belongs to {owner}?",
    "{reader} likes {colour}. Which one is {colour}?",
    "{reader} needs a {thing}. Which one is a {thing}?",
)
_PLAN = tuple(
    (labels[:number], place)
    for labels in LABELS
    for number in NUM_OPTIONS
    for place in range(number)
)


def generate_mini(split: str, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of one split without end, in the schema of the original data.

    ``seed`` is not negative and equals ``data.seed``.
    """
    names = people_names(split)
    shuffled = partial(shuffled_place, MINI_VERSION, seed, split)
    for index in count():
        labels, place = _PLAN[shuffled(index=index, size=len(_PLAN))]
        template = _QUESTIONS[shuffled(index=index, size=len(_QUESTIONS))]
        rng = keyed_generator(MINI_VERSION, seed, split, index)
        reader, *owners = draw_words(rng, names, len(labels) + 1)
        colours = draw_words(rng, COLOURS, len(labels))
        things = draw_words(rng, THINGS, len(labels))
        facts = {"owner": owners[place], "colour": colours[place], "thing": things[place]}
        yield {
            "id": f"mini{MINI_VERSION}-{seed}-{split}-{index}",
            "question": template.format(reader=reader, **facts),
            "choices": {
                "text": [
                    f"{owner}'s {colour} {thing}"
                    for owner, colour, thing in zip(owners, colours, things, strict=True)
                ],
                "label": list(labels),
            },
            "answerKey": labels[place],
        }
