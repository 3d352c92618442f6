import re
from itertools import combinations, islice

import numpy as np
import pytest

from fseed.tasks.protein_mini import (
    CLASSES,
    COIL,
    CONTACT_DISTANCE,
    CORE,
    CORE_RADIUS,
    HELIX,
    RESIDUES,
    SPREAD,
    STRAND,
    generate_contacts,
    generate_structures,
    label_chain,
)
from fseed.tasks.sequence_clusters import cluster_sequences
from fseed.tasks.sources import SPLITS

SHORT = {"min_residues": 24, "max_residues": 48}
PAIRS = {"num_each": 8, "separation": 8}


def structures(split, number, *, seed=0, **lengths):
    return list(islice(generate_structures(split, seed=seed, **(SHORT | lengths)), number))


def contacts(split, number, *, seed=0, **changes):
    return list(islice(generate_contacts(split, seed=seed, **(SHORT | PAIRS | changes)), number))


def slow_labels(chain):
    """Label a chain with one regular expression a rule."""
    rules = [
        (f"[{HELIX}]{{12,}}", "I"),
        (f"[{HELIX}]{{4,}}", "H"),
        (f"[{HELIX}]{{3}}", "G"),
        (f"[{HELIX}]+", "T"),
        (f"[{STRAND}]{{2,}}", "E"),
        (f"[{STRAND}]", "B"),
        ("[GN]", "T"),
        ("[SD]", "S"),
        ("[PH]", "~"),
    ]
    labels, start = "", 0
    while start < len(chain):
        found, label = next(
            (match, label)
            for pattern, label in rules
            if (match := re.compile(pattern).match(chain, start))
        )
        labels += label * len(found[0])
        start = found.end()
    return labels


def test_first_rows_are_pinned():
    """A change of these rows needs a new MINI_VERSION."""
    assert structures("train", 1) == [
        {
            "PDB_ID": "mini1-0-train-0",
            "Sequence": "SHNDQEGHSHSRRKQSDHPEKGNN",
            "Secondary_structure": "S~TSTTT~S~SHHHHSS~~TTTTT",
            "Sequence_length": 24,
        }
    ]
    row = contacts("train", 1)[0]
    assert row["name"] == "mini1-0-train-0"
    assert row["seq"] == "LDPWFAFHPIFMYCILHATWMHFGTRHLHSSCGWRNKDIQRMGVCMA"
    assert row["tertiary"][:2] == [[-1.517, -1.09, 0.248], [-8.433, -4.161, 14.683]]


def test_classes_are_the_twenty_residues():
    assert sorted(HELIX + STRAND + COIL) == sorted(RESIDUES) == list(RESIDUES)
    assert len(CLASSES) == 3
    assert set(CORE) < set(RESIDUES)


@pytest.mark.parametrize(
    ("chain", "labels"),
    [
        ("A", "T"),
        ("AE", "TT"),
        ("AEL", "GGG"),
        ("AELK", "HHHH"),
        ("A" * 11, "H" * 11),
        ("A" * 12, "I" * 12),
        ("V", "B"),
        ("VI", "EE"),
        ("GPNDSH", "T~TSS~"),
        ("AELVGAELKIYP", "GGGBTHHHHEE~"),
        ("", ""),
    ],
)
def test_labels_follow_the_rule(chain, labels):
    assert label_chain(chain) == labels


def test_labels_of_rows_follow_the_rule_and_use_every_state():
    rows = structures("train", 300)
    for row in rows:
        assert row["Secondary_structure"] == slow_labels(row["Sequence"])
        assert row["Sequence_length"] == len(row["Sequence"])
    seen = "".join(row["Secondary_structure"] for row in rows)
    shares = {label: seen.count(label) / len(seen) for label in "GHIBEST~"}
    assert set(seen) == set(shares)
    assert min(shares.values()) > 0.01
    assert max(shares.values()) < 0.4


@pytest.mark.parametrize("generate", [structures, contacts])
def test_rows_are_deterministic_and_more_rows_extend_a_split(generate):
    rows = generate("train", 30)
    assert generate("train", 10) == rows[:10]
    assert generate("train", 10, seed=1) != rows[:10]
    assert generate("test", 10) != rows[:10]


@pytest.mark.parametrize(
    ("low", "high", "top"), [(24, 48, 48), (40, 40, 40), (24, 512, 24 + SPREAD)]
)
def test_lengths_stay_in_range(low, high, top):
    lengths = {
        row["Sequence_length"]
        for row in structures("train", 400, min_residues=low, max_residues=high)
    }
    assert (min(lengths), max(lengths)) == (low, top)
    lengths = {
        len(row["seq"]) for row in contacts("train", 400, min_residues=low, max_residues=high)
    }
    assert (min(lengths), max(lengths)) == (low, top)


@pytest.mark.parametrize(("low", "high", "number"), [(24, 48, 500), (96, 512, 300)])
def test_no_two_chains_look_related(low, high, number):
    lengths = {"min_residues": low, "max_residues": high}
    chains = [row["Sequence"] for split in SPLITS for row in structures(split, number, **lengths)]
    assert len(set(cluster_sequences(chains))) == len(chains)
    chains = [row["seq"] for split in SPLITS for row in contacts(split, number, **lengths)]
    assert len(set(cluster_sequences(chains))) == len(chains)


def test_resolved_residues_touch_exactly_if_both_are_core():
    for row in contacts("train", 20):
        chain, places = row["seq"], np.array(row["tertiary"])
        assert places.shape == (len(chain), 3)
        for one, other in combinations(range(len(chain)), 2):
            if row["valid_mask"][one] and row["valid_mask"][other]:
                distance = np.linalg.norm(places[one] - places[other])
                both = chain[one] in CORE and chain[other] in CORE
                assert distance <= 2 * CORE_RADIUS + 0.01 if both else distance > 12 - 0.01
    assert 2 * CORE_RADIUS + 0.01 < CONTACT_DISTANCE < 12 - 0.01


def test_unresolved_residues_lie_at_zero_as_if_in_the_core():
    rows = contacts("train", 100)
    masks = [flag for row in rows for flag in row["valid_mask"]]
    assert 0.9 < np.mean(masks) < 0.99
    for row in rows:
        for flag, place in zip(row["valid_mask"], row["tertiary"], strict=True):
            assert flag or place == [0, 0, 0]


def test_every_chain_has_the_pairs_asked_for():
    # 24 residues have 136 pairs, 34 of which are in contact on average
    for row in contacts("train", 200, max_residues=24, num_each=30):
        chain, mask = row["seq"], row["valid_mask"]
        pairs = [
            chain[one] in CORE and chain[other] in CORE
            for one, other in combinations(range(len(chain)), 2)
            if other - one >= 8 and mask[one] and mask[other]
        ]
        assert min(sum(pairs), len(pairs) - sum(pairs)) >= 30
