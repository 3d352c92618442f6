"""Chains and options for the tests of ``protein_ss``."""

from itertools import islice

from task_helpers import PlainBuild, task_config

from fseed.tasks.protein_mini import generate_structures
from fseed.tasks.protein_ss import ProteinSsOptions

CHAIN = "MKTAYIAKQRGDPGVW"
LABELS = "~HHHHIGGTTSSBBEE"
SMALL = {"num_queries": 6, "num_notes": 2, "min_residues": 16, "max_residues": 40}


def make_chain(chain=CHAIN, labels=LABELS, **more):
    return {"Sequence": chain, "Secondary_structure": labels} | more


def make_build(order="filler_last", **changes):
    options = ProteinSsOptions(**(SMALL | changes))
    return PlainBuild(order=order, options=options, notes=("GSHMLEDPVVKW", "WWCC", "unused"))


def make_config(**changes):
    facts = {
        "name": "protein_ss",
        "order": "filler_last",
        "max_length_tokens": 256,
        "max_answer_tokens": 16,
        "options": {"num_queries": 16, "num_notes": 2, "min_residues": 24, "max_residues": 48},
    }
    return task_config(**(facts | changes))


def make_rows(number, split="train"):
    stream = generate_structures(split, seed=0, min_residues=24, max_residues=48)
    return [row | {"PDB_ID": None} for row in islice(stream, number)]
