"""Generated clean texts for punctuation and casing restoration.

A text is four sentences of different kinds out of five (statement, list, question, speech, call),
about people and towns with invented names. Words alone determine every mark and every capital:
``and`` ends a list of three, ``said`` follows speech, ``please`` follows a call, an auxiliary verb
opens a question. Five texts in a row leave out each kind once.

Row ``i`` of a split depends on the version, the seed, the split and ``i`` alone. Names of people
are disjoint between the splits; towns and things are shared. A change that moves any row needs a
new ``MINI_VERSION``.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from fseed.tasks.hotpot_mini import people_names, town_names
from fseed.tasks.mini_words import THINGS, draw_words, keyed_generator, shuffled_place

MINI_VERSION = 1

TEMPLATES = {
    "statement": "{name} lives in {town} now.",
    "list": "The people of {town} sell {things[0]}, {things[1]} and {things[2]}.",
    "question": "Does {name} still own the {things[0]} from {town}?",
    "speech": '"I don\'t know {name}," said {other}.',
    "call": "{name}, please bring the {things[0]} to {other}!",
}
_KINDS = tuple(TEMPLATES)


def generate_mini(split: str, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of one split without end: ``{"text": clean text}``.

    ``seed`` is not negative and equals ``data.seed``.
    """
    names, towns = people_names(split), town_names()
    for index in count():
        left_out = shuffled_place(MINI_VERSION, seed, split, index=index, size=len(_KINDS))
        rng = keyed_generator(MINI_VERSION, seed, split, index)
        order = [_KINDS[i] for i in rng.permutation(len(_KINDS)) if i != left_out]
        yield {"text": " ".join(_write_sentence(rng, kind, names, towns) for kind in order)}


def _write_sentence(rng: np.random.Generator, kind: str, names: list[str], towns: list[str]) -> str:
    """Return a sentence of one kind with drawn names and things."""
    name, other = draw_words(rng, names, 2)
    things = [f"{thing}s" for thing in draw_words(rng, THINGS, 3)]
    (town,) = draw_words(rng, towns, 1)
    return TEMPLATES[kind].format(name=name, other=other, things=things, town=town)
