"""Chains, options and plain loops for the tests of ``protein_contact``."""

from itertools import combinations, islice

import numpy as np
from task_helpers import PlainBuild, task_config

from fseed.tasks.protein_contact import ProteinContactOptions
from fseed.tasks.protein_mini import generate_contacts

CHAIN = "MKTAYIAKQRGDPGVWLE"
NAN = float("nan")
SMALL = {"num_pairs": 4, "num_notes": 2, "min_residues": 16, "max_residues": 40}


def make_points():
    """Return a hairpin: residues 1..9 go up, 10..18 come down beside them, one step apart 4.0."""
    up = [[0.0, 0.0, 4.0 * step] for step in range(9)]
    down = [[5.0, 0.0, 4.0 * step] for step in reversed(range(9))]
    return up + down


def make_chain(**changes):
    row = {"seq": CHAIN, "tertiary": make_points(), "valid_mask": [True] * len(CHAIN)}
    return row | changes


def make_build(order="filler_last", **changes):
    options = ProteinContactOptions(**(SMALL | changes))
    return PlainBuild(order=order, options=options, notes=("GSHMLEDPVVKW", "WWCC", "unused"))


def make_config(**changes):
    facts = {
        "name": "protein_contact",
        "order": "filler_last",
        "max_length_tokens": 288,
        "max_answer_tokens": 16,
        "options": {"num_pairs": 16, "num_notes": 2, "min_residues": 24, "max_residues": 40},
    }
    return task_config(**(facts | changes))


def make_rows(number):
    stream = generate_contacts(
        "train", seed=0, min_residues=24, max_residues=40, num_each=8, separation=8
    )
    return [
        {name: row[name] for name in ("seq", "tertiary", "valid_mask")}
        for row in islice(stream, number)
    ]


def pairs_of(example):
    """Return the queried pairs, counted from one."""
    text = example.sections["queries"].paragraphs[0].sentences[0]
    return [tuple(int(place) for place in pair.split("-")) for pair in text.split()]


def slow_contacts(row):
    """Return pair (from one up) -> bit of all pairs that may be asked for."""
    found = {}
    for one, other in combinations(range(len(row["seq"])), 2):
        if other - one >= 8 and row["valid_mask"][one] and row["valid_mask"][other]:
            gap = np.subtract(row["tertiary"][one], row["tertiary"][other])
            found[one + 1, other + 1] = "01"[int(np.linalg.norm(gap) <= 8.0)]
    return found
