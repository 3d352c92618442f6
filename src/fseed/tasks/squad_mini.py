"""Generated SQuAD rows: a short article on an invented fair, and one of its facts asked for.

Every article has the same form, whatever is asked: where the fair was held, then one sentence for
each of six people from different towns, who bring different numbers of things of different colours
and kinds. Two rows in a row share an article and ask for different kinds of facts about different
people, so that the article alone does not tell the answer. Eight rows in a row ask each of the four
kinds (who, which town, how many, what) twice. All but ``who`` have two gold answers, the second one
longer. Every question names its fair, so that it has one answer among articles on many fairs.

Row ``i`` of a split depends on the version, the seed, the split and ``i`` alone. Names of people,
titles and contexts are disjoint between the splits; towns, colours and things are shared. A change
that moves any row needs a new ``MINI_VERSION``.
"""

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from fseed.tasks.hotpot_mini import people_names, town_names
from fseed.tasks.mini_words import COLOURS, THINGS, draw_words, keyed_generator

MINI_VERSION = 1

NUM_PEOPLE = 6
ROWS_PER_ARTICLE = 2

# kind -> runs of the pieces of a sentence (see ``_pieces``) that are gold answers
GOLD_PIECES = {
    "who": ((4, 5),),
    "town": ((2, 3), (1, 3)),
    "how many": ((6, 7), (6, 9)),
    "what": ((8, 9), (6, 9)),
}
_KINDS = tuple(GOLD_PIECES)


def generate_mini(split: str, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield rows of one split without end, in the schema of the original data.

    ``seed`` is not negative and equals ``data.seed``.
    """
    names, towns = people_names(split), town_names()
    generator = partial(keyed_generator, MINI_VERSION, seed, split)
    for index in count():
        number, turn = divmod(index, ROWS_PER_ARTICLE)
        # four articles make a block that asks every kind twice, never one kind twice of an article
        block, place = divmod(number, len(_KINDS))
        kinds = generator(block, len(_KINDS)).permutation(len(_KINDS))
        kind = _KINDS[kinds[(place + turn) % len(_KINDS)]]
        fair, people, asked = _build_article(generator(number), names, towns)
        row_id = f"mini{MINI_VERSION}-{seed}-{split}-{index}"
        yield _build_row(row_id, fair, people, kind=kind, asked=asked[turn])


def _build_article(
    rng: np.random.Generator, names: list[str], towns: list[str]
) -> tuple[tuple[str, str], list[dict[str, str]], list[int]]:
    """Draw name and town of a fair, its people, and the order in which they are asked about."""
    first, second, *people = draw_words(rng, names, NUM_PEOPLE + 2)
    home, *origins = draw_words(rng, towns, NUM_PEOPLE + 1)
    colours, things = draw_words(rng, COLOURS, NUM_PEOPLE), draw_words(rng, THINGS, NUM_PEOPLE)
    tens = rng.permutation(np.arange(1, 10))[:NUM_PEOPLE]
    facts = [
        {
            "name": people[i],
            "town": origins[i],
            "number": str(int(10 * tens[i] + rng.integers(10))),
            "colour": colours[i],
            "things": f"{things[i]}s",
        }
        for i in range(NUM_PEOPLE)
    ]
    return (f"{first} {second}", home), facts, [int(i) for i in rng.permutation(NUM_PEOPLE)]


def _pieces(facts: dict[str, str]) -> tuple[str, ...]:
    """Return the sentence of one person in pieces, of which gold answers are runs."""
    return (
        "From ",
        "the town of ",
        facts["town"],
        ", ",
        facts["name"],
        " brought ",
        facts["number"],
        " ",
        f"{facts['colour']} {facts['things']}",
        ".",
    )


def _ask(kind: str, facts: dict[str, str], fair: str) -> str:
    """Return the question for one fact of a person."""
    name, things = facts["name"], facts["things"]
    return {
        "who": f"Who brought {things} to the {fair} fair?",
        "town": f"Which town did {name} come from to the {fair} fair?",
        "how many": f"How many {things} did {name} bring to the {fair} fair?",
        "what": f"What did {name} bring to the {fair} fair?",
    }[kind]


def _build_row(
    row_id: str, fair: tuple[str, str], people: list[dict[str, str]], *, kind: str, asked: int
) -> dict[str, Any]:
    """Return a row in the schema of the original data."""
    name, town = fair
    sentences = [
        f"The {name} fair was held in {town}.",
        *("".join(_pieces(facts)) for facts in people),
    ]
    pieces = _pieces(people[asked])
    # the sentences before the asked one, each with the space behind it
    start = sum(len(sentence) + 1 for sentence in sentences[: asked + 1])
    runs = GOLD_PIECES[kind]
    return {
        "id": row_id,
        "title": f"{name} fair".replace(" ", "_"),
        "context": " ".join(sentences),
        "question": _ask(kind, people[asked], name),
        "answers": {
            "text": ["".join(pieces[first:stop]) for first, stop in runs],
            "answer_start": [start + len("".join(pieces[:first])) for first, _ in runs],
        },
    }
