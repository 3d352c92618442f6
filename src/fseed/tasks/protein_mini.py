"""Generated protein chains whose labels and contacts follow from their residues.

Secondary structure. The twenty residues are helix formers (``HELIX``), strand formers
(``STRAND``) and the others (``COIL``). A chain is a sequence of runs of one class; the labels
follow by this rule, and by nothing else:

- helix formers: a run of 1 or 2 is T, of 3 is G, of 4 to 11 is H, of 12 or more is I
- strand formers: a run of 1 is B, of 2 or more is E
- others: G and N are T, S and D are S, P and H are ``~``

Contacts. Residues of ``CORE`` lie within ``CORE_RADIUS`` of the centre, the others on a sphere
around it, so far apart that none touches another residue. Two residues are therefore in contact
(``CONTACT_DISTANCE``) exactly if both are core residues. It is no fold: neighbours in the chain may
be far apart. One residue in twenty is unresolved: its mask is false and its coordinates are zero.

Row ``i`` of a split depends on the version, the seed, the options, the split and ``i`` alone. A
chain has ``min_residues`` residues at least and ``SPREAD`` more (or ``max_residues``) at most, few
enough that no two chains of some thousand look related. A change that moves any row needs a new
``MINI_VERSION``.
"""

import math
from collections.abc import Iterator
from itertools import count, groupby
from typing import Any

import numpy as np

from fseed.tasks.sources import SPLITS

MINI_VERSION = 1

HELIX = "AELKMQR"
STRAND = "VIYFWTC"
COIL = "GPNDSH"
CLASSES = (HELIX, STRAND, COIL)

SPREAD = 32

# chance that the next residue is of the same class: runs of four residues on average
STAY = 0.75

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
CORE = "ACFILMVWYG"
CORE_RADIUS = 3.5
CONTACT_DISTANCE = 8.0
UNRESOLVED_SHARE = 0.05

_COIL_LABELS = {"G": "T", "N": "T", "S": "S", "D": "S", "P": "~", "H": "~"}
_STRUCTURE, _CONTACTS = 0, 1  # streams of the generator


def generate_structures(
    split: str, *, seed: int, min_residues: int, max_residues: int
) -> Iterator[dict[str, Any]]:
    """Yield chains with their labels without end, in the columns of the lamm data set."""
    for index in count():
        rng = _generator(_STRUCTURE, seed, split, index)
        chain = _draw_runs(rng, _draw_length(rng, min_residues, max_residues))
        yield {
            "PDB_ID": f"mini{MINI_VERSION}-{seed}-{split}-{index}",
            "Sequence": chain,
            "Secondary_structure": label_chain(chain),
            "Sequence_length": len(chain),
        }


def label_chain(chain: str) -> str:
    """Return the 8-state labels of a chain of the twenty residues by the rule of this module."""
    runs = ("".join(run) for _, run in groupby(chain, key=_class_of))
    return "".join(_label_run(run) for run in runs)


def generate_contacts(
    split: str, *, seed: int, min_residues: int, max_residues: int, num_each: int, separation: int
) -> Iterator[dict[str, Any]]:
    """Yield chains with coordinates without end, in the columns of the contact data set.

    Among the pairs of resolved residues at least ``separation`` apart in the chain, at least
    ``num_each`` are in contact and as many are not; ``min_residues`` must leave room for that.
    """
    for index in count():
        rng = _generator(_CONTACTS, seed, split, index)
        while True:
            length = _draw_length(rng, min_residues, max_residues)
            chain = "".join(RESIDUES[place] for place in rng.integers(0, len(RESIDUES), length))
            resolved = rng.random(length) >= UNRESOLVED_SHARE
            if _has_pairs(chain, resolved, num_each=num_each, separation=separation):
                break
        yield {
            "name": f"mini{MINI_VERSION}-{seed}-{split}-{index}",
            "seq": chain,
            "tertiary": np.where(resolved[:, None], _place(rng, chain), 0.0).tolist(),
            "valid_mask": resolved.tolist(),
        }


def _generator(stream: int, seed: int, split: str, index: int) -> np.random.Generator:
    """Return the independent generator of one row."""
    return np.random.default_rng([MINI_VERSION, seed, SPLITS.index(split), index, stream])


def _draw_length(rng: np.random.Generator, min_residues: int, max_residues: int) -> int:
    """Return a number of residues."""
    return int(rng.integers(min_residues, min(max_residues, min_residues + SPREAD) + 1))


def _draw_runs(rng: np.random.Generator, length: int) -> str:
    """Return a chain that changes the class of its residues now and then."""
    moves = rng.random(length) >= STAY
    steps = np.where(moves, rng.integers(1, len(CLASSES), length), 0)
    classes = (rng.integers(len(CLASSES)) + np.cumsum(steps)) % len(CLASSES)
    picks = rng.random(length)
    return "".join(
        CLASSES[number][int(pick * len(CLASSES[number]))]
        for number, pick in zip(classes, picks, strict=True)
    )


def _class_of(residue: str) -> int:
    """Return the number of the class of a residue."""
    return next(number for number, letters in enumerate(CLASSES) if residue in letters)


def _label_run(run: str) -> str:
    """Return the labels of a run of residues of one class."""
    if run[0] in COIL:
        return "".join(_COIL_LABELS[residue] for residue in run)
    if run[0] in STRAND:
        return "B" if len(run) == 1 else "E" * len(run)
    if len(run) < 4:
        return "G" * 3 if len(run) == 3 else "T" * len(run)
    return ("H" if len(run) < 12 else "I") * len(run)


def _has_pairs(chain: str, resolved: np.ndarray, *, num_each: int, separation: int) -> bool:
    """Return whether the chain has enough pairs in contact and enough that are not."""
    core = np.array([residue in CORE for residue in chain])
    first, second = np.triu_indices(len(chain), k=separation)
    usable = resolved[first] & resolved[second]
    num_contacts = int((usable & core[first] & core[second]).sum())
    return min(num_contacts, int(usable.sum()) - num_contacts) >= num_each


def _place(rng: np.random.Generator, chain: str) -> np.ndarray:
    """Return the coordinates [residue, 3] of a chain."""
    core = np.array([residue in CORE for residue in chain])
    directions = rng.normal(size=(len(chain), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    places = directions * CORE_RADIUS * rng.random((len(chain), 1))
    num_outside = int((~core).sum())
    places[~core] = rng.permutation(_spread_on_sphere(num_outside))
    return places.round(3)


def _spread_on_sphere(number: int) -> np.ndarray:
    """Return points [number, 3] on a golden spiral around the centre.

    The radius grows with the root of their number, so that any two stay at least 12 apart.
    """
    radius = max(16.0, 4 * math.sqrt(number))
    steps = np.arange(number) + 0.5
    height = 1 - 2 * steps / max(number, 1)
    width = np.sqrt(1 - height**2)
    angle = steps * math.pi * (3 - math.sqrt(5))
    return radius * np.stack([width * np.cos(angle), width * np.sin(angle), height], axis=1)
