"""Generated HotpotQA rows: two-hop questions over four invented people.

Every context has the same form, whatever is asked. Four people each live in a town, have an age
and trust one of the others; towns, ages and trusted people are all different. Twelve questions in
twenty are bridges (the town or the age of the one somebody trusts), eight are comparisons of two
ages (four ask for the name, four for yes or no). Before the question is known every town, every
age, every name, yes and no are still possible: eight values for a bridge, four equally likely names
for "older" and "younger" together, and as many yes as no.

Row ``i`` of a split depends on the version, the seed, the split and ``i`` alone, so asking for more
rows never changes the first ones. Names of people are disjoint between the splits. A change that
moves any row needs a new ``MINI_VERSION``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

MINI_VERSION = 1

SPLITS = ("train", "validation", "test")
NUM_PEOPLE = 4

# few letters, so that every split has every syllable; names of people end in a vowel, towns do not
_ONSETS = "bdklmnrstvz"
_VOWELS = "aeiou"
_LAST_VOWELS = "aou"
_TOWN_VOWELS = "aeio"
_TOWN_CODAS = "lmnr"

# one eighth of the names each for test and validation, the others for train
_NUM_NAME_CLASSES = 8
_HELD_OUT_CLASS = {"test": 0, "validation": 1}


@dataclass(frozen=True)
class World:
    """Four people in the order of their paragraphs; ``trusts[i]`` is an index."""

    names: tuple[str, ...]
    towns: tuple[str, ...]
    ages: tuple[int, ...]
    trusts: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A question, its answer and the (person, sentence) pairs it rests on."""

    text: str
    answer: str
    kind: str
    facts: tuple[tuple[int, int], ...]


def generate_mini(split: str, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of one split without end, in the schema of the original data.

    ``seed`` is not negative and equals ``data.seed``.
    """
    names, towns = people_names(split), town_names()
    for index in count():
        rng = _generator(seed, split, index)
        world = _build_world(rng, names, towns)
        ask = _plan_block(seed, split, index // len(_PLAN))[index % len(_PLAN)]
        # two different people, all ordered pairs equally likely
        first, second = (int(place) for place in rng.permutation(NUM_PEOPLE)[:2])
        yield _build_row(
            f"mini{MINI_VERSION}-{seed}-{split}-{index}", world, ask(world, first, second)
        )


def people_names(split: str) -> list[str]:
    """Return the names of people that occur in ``split`` and in no other."""
    held_out = set(_HELD_OUT_CLASS.values())
    names = []
    for first, left in enumerate(_syllables(_VOWELS)):
        for last, right in enumerate(_syllables(_LAST_VOWELS)):
            group = (first + last) % _NUM_NAME_CLASSES
            mine = (
                group == _HELD_OUT_CLASS[split]
                if split in _HELD_OUT_CLASS
                else group not in held_out
            )
            if mine:
                names.append((left + right).capitalize())
    return names


def town_names() -> list[str]:
    """Return the names of all towns; they are shared by the splits."""
    return [
        (onset + coda).capitalize() for onset in _syllables(_TOWN_VOWELS) for coda in _TOWN_CODAS
    ]


def _syllables(vowels: str) -> list[str]:
    """Return every onset with every vowel."""
    return [onset + vowel for onset in _ONSETS for vowel in vowels]


def _generator(seed: int, split: str, *keys: int) -> np.random.Generator:
    """Return the independent generator of one row (one key) or one block (two keys)."""
    return np.random.default_rng([MINI_VERSION, seed, SPLITS.index(split), *keys])


def _build_world(rng: np.random.Generator, names: list[str], towns: list[str]) -> World:
    """Draw four different people, towns and ages, and a circle of trust."""
    circle = rng.permutation(NUM_PEOPLE)
    trusts = [0] * NUM_PEOPLE
    for position, person in enumerate(circle):
        trusts[person] = int(circle[(position + 1) % NUM_PEOPLE])
    # different tens digits, so that the first digit of two ages decides which is larger
    tens = rng.permutation(np.arange(1, 10))[:NUM_PEOPLE]
    return World(
        names=tuple(names[i] for i in rng.choice(len(names), NUM_PEOPLE, replace=False)),
        towns=tuple(towns[i] for i in rng.choice(len(towns), NUM_PEOPLE, replace=False)),
        ages=tuple(int(10 * ten + rng.integers(10)) for ten in tens),
        trusts=tuple(trusts),
    )


_LIVES, _AGED, _TRUSTS = 0, 1, 2


def _sentences(world: World, person: int) -> list[str]:
    """Return the three sentences of a paragraph; all but the first begin with a space."""
    return [
        f"Lives in {world.towns[person]}.",
        f" Aged {world.ages[person]}.",
        f" Trusts {world.names[world.trusts[person]]}.",
    ]


def _ask_town(world: World, first: int, second: int) -> Question:
    """Ask for the town of the one that ``first`` trusts."""
    friend = world.trusts[first]
    return Question(
        f"Where does the one {world.names[first]} trusts live?",
        world.towns[friend],
        "bridge",
        ((first, _TRUSTS), (friend, _LIVES)),
    )


def _ask_age(world: World, first: int, second: int) -> Question:
    """Ask for the age of the one that ``first`` trusts."""
    friend = world.trusts[first]
    return Question(
        f"How old is the one {world.names[first]} trusts?",
        str(world.ages[friend]),
        "bridge",
        ((first, _TRUSTS), (friend, _AGED)),
    )


def _ask_name(*, older: bool, first_wins: bool) -> Callable[[World, int, int], Question]:
    """Return a question for the older or younger of two; the winner is named first or second."""

    def ask(world: World, first: int, second: int) -> Question:
        winner, loser = _by_age(world, first, second, older=older)
        named = (winner, loser) if first_wins else (loser, winner)
        left, right = (world.names[person] for person in named)
        text = f"Who is {'older' if older else 'younger'}, {left} or {right}?"
        return _comparison(text, world.names[winner], named)

    return ask


def _ask_truth(*, older: bool, truth: bool) -> Callable[[World, int, int], Question]:
    """Return a yes/no question whether one is older or younger than another."""

    def ask(world: World, first: int, second: int) -> Question:
        winner, loser = _by_age(world, first, second, older=older)
        named = (winner, loser) if truth else (loser, winner)
        left, right = (world.names[person] for person in named)
        text = f"Is {left} {'older' if older else 'younger'} than {right}?"
        return _comparison(text, "yes" if truth else "no", named)

    return ask


def _by_age(world: World, first: int, second: int, *, older: bool) -> tuple[int, int]:
    """Return the pair with the older (or younger) person first."""
    ordered = sorted((first, second), key=lambda person: world.ages[person], reverse=older)
    return ordered[0], ordered[1]


def _comparison(text: str, answer: str, people: tuple[int, int]) -> Question:
    """Return a question that rests on the ages of two people."""
    return Question(text, answer, "comparison", tuple((person, _AGED) for person in people))


# what twenty rows in a row ask, in shuffled order: every option of a kind equally often
_BOTH = (True, False)
_PLAN: tuple[Callable[[World, int, int], Question], ...] = (
    *(_ask_town, _ask_age) * 6,
    *(_ask_name(older=older, first_wins=wins) for older in _BOTH for wins in _BOTH),
    *(_ask_truth(older=older, truth=truth) for older in _BOTH for truth in _BOTH),
)


def _plan_block(seed: int, split: str, block: int) -> list[Callable[[World, int, int], Question]]:
    """Return the questions of one block of rows in their shuffled order."""
    order = _generator(seed, split, block, len(_PLAN)).permutation(len(_PLAN))
    return [_PLAN[place] for place in order]


def _build_row(row_id: str, world: World, question: Question) -> dict[str, Any]:
    """Return a row in the schema of the original data."""
    facts = sorted(question.facts)
    return {
        "id": row_id,
        "question": question.text,
        "answer": question.answer,
        "type": question.kind,
        "level": "easy",
        "supporting_facts": {
            "title": [world.names[person] for person, _ in facts],
            "sent_id": [sentence for _, sentence in facts],
        },
        "context": {
            "title": list(world.names),
            "sentences": [_sentences(world, person) for person in range(NUM_PEOPLE)],
        },
    }
