import hashlib
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from fseed.tasks.sequence_clusters import (
    MIN_SHARED,
    OFFSETS,
    RESIDUES,
    TAGS,
    cluster_sequences,
)

SPAN = OFFSETS[-1] + 1


def random_chain(rng, length=250):
    return "".join(np.array(list(RESIDUES))[rng.integers(0, len(RESIDUES), length)])


def mutate(rng, chain, *, kept):
    """Return the chain with ``kept`` of its residues and random ones at the other places."""
    other = random_chain(rng, len(chain))
    keep = rng.random(len(chain)) < kept
    return "".join(old if same else new for old, new, same in zip(chain, other, keep, strict=True))


def slow_link(one, other):
    """Apply the rule to a tag-free pair, one k-mer at a time."""

    def kmers(chain):
        windows = (chain[start : start + SPAN] for start in range(len(chain) - SPAN + 1))
        words = {"".join(window[offset] for offset in OFFSETS) for window in windows}
        return {word for word in words if set(word) <= set(RESIDUES)}

    left, right = kmers(one), kmers(other)
    return len(left & right) >= max(MIN_SHARED, 0.01 * min(len(left), len(right)))


def slow_clusters(chains):
    """Return the partition by the rule, with links followed until nothing changes."""
    label = list(range(len(chains)))
    for one in range(len(chains)):
        for other in range(one):
            if chains[one] == chains[other] or slow_link(chains[one], chains[other]):
                old, new = label[one], label[other]
                label = [new if value == old else value for value in label]
    return label


def partition(names):
    return {frozenset(i for i, other in enumerate(names) if other == name) for name in names}


def test_rule_agrees_with_a_plain_loop():
    rng = np.random.default_rng([1])
    chains = []
    for family in range(6):
        parent = random_chain(rng, 60 + 100 * family)
        chains += [parent, *(mutate(rng, parent, kept=kept) for kept in (0.75, 0.6, 0.5, 0.4))]
    chains += ["X" * 80, chains[3][:30] + "XX" + chains[3][30:40], "ACDEFGHI", "ACDEF", ""]
    names = cluster_sequences(chains)
    assert partition(names) == partition(slow_clusters(chains))
    assert 6 < len(set(names)) < len(chains)


def test_no_sequence_is_an_empty_list():
    assert cluster_sequences([]) == []


def test_one_sequence_is_named_after_itself():
    digest = hashlib.sha256(b"ACDEF").hexdigest()
    assert cluster_sequences(["acdef"]) == [digest[:16]]


def test_duplicates_and_lower_case_share_a_cluster_whatever_the_length():
    for chain in ("", "A", "ACDEF", "ACDEFGHIKLMNPQRSTVWY"):
        names = cluster_sequences([chain, "WWWWWWWWWWWWWW", chain.lower(), chain])
        assert names[0] == names[2] == names[3] != names[1]


def test_short_sequences_share_a_cluster_with_equal_ones_only():
    names = cluster_sequences(["ACDEFG", "ACDEFH", "ACD", "AC", ""])
    assert len(set(names)) == 5


def test_names_do_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng([2])
    parents = [random_chain(rng) for _ in range(5)]
    chains = [mutate(rng, parent, kept=0.7) for parent in parents for _ in range(4)]
    names = cluster_sequences(chains)
    order = rng.permutation(len(chains))
    assert cluster_sequences([chains[i] for i in order]) == [names[i] for i in order]
    assert partition(names) == {frozenset(range(4 * i, 4 * i + 4)) for i in range(5)}
    smallest = min(chains[:4])
    assert names[0] == hashlib.sha256(smallest.encode()).hexdigest()[:16]


def test_links_are_followed_through_other_members():
    rng = np.random.default_rng([3])
    left, right = random_chain(rng, 120), random_chain(rng, 120)
    bridge = left[60:] + right[:60]
    assert len(set(cluster_sequences([left, right]))) == 2
    assert len(set(cluster_sequences([left, right, bridge]))) == 1


def test_a_fragment_belongs_to_its_chain():
    chain = random_chain(np.random.default_rng([4]))
    assert len(set(cluster_sequences([chain, chain[100:130]]))) == 1


def test_long_chains_need_the_stated_fraction():
    rng = np.random.default_rng([5])
    one, other = random_chain(rng, 1200), random_chain(rng, 1200)
    # a shared run of n residues holds n - SPAN + 1 k-mers; 1 % of 1,193 k-mers is 11.93
    few, enough = (other[:600] + one[600 : 600 + SPAN - 1 + n] for n in (9, 14))
    assert len(set(cluster_sequences([one, few + other[len(few) :]]))) == 2
    assert len(set(cluster_sequences([one, enough + other[len(enough) :]]))) == 1


@pytest.mark.parametrize("tag", TAGS)
def test_a_shared_purification_tag_links_nothing(tag):
    rng = np.random.default_rng([6])
    one, other = random_chain(rng), random_chain(rng)
    assert len(set(cluster_sequences([tag + one + tag, tag + other + tag]))) == 2


def test_unknown_residues_link_nothing():
    rng = np.random.default_rng([7])
    one, other = random_chain(rng, 100), random_chain(rng, 100)
    assert len(set(cluster_sequences([one + "X" * 50, "X" * 50 + other, "é" * 50]))) == 3


@pytest.mark.parametrize(("kept", "lowest"), [(0.9, 1.0), (0.7, 1.0), (0.55, 0.8)])
def test_related_chains_are_linked(kept, lowest):
    rng = np.random.default_rng([8])
    linked = 0
    for _ in range(20):
        chain = random_chain(rng)
        linked += len(set(cluster_sequences([chain, mutate(rng, chain, kept=kept)]))) == 1
    assert linked / 20 >= lowest


def test_unrelated_chains_are_not_linked():
    rng = np.random.default_rng([9])
    chains = [random_chain(rng) for _ in range(500)]
    assert len(set(cluster_sequences(chains))) == 500


@pytest.mark.slow
def test_twelve_thousand_chains_take_less_than_ten_seconds():
    rng = np.random.default_rng([10])
    chains = [random_chain(rng) for _ in range(12_000)]
    started = time.process_time()
    names = cluster_sequences(chains)
    assert time.process_time() - started < 10
    assert len(set(names)) > 11_900


def test_scipy_is_imported_only_when_needed():
    code = (
        "import sys, fseed.tasks.sequence_clusters\n"
        "assert not {'scipy', 'pandas', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_chains_keep_most_clusters_small(shared_data):
    table = pq.read_table(shared_data / "protein_ss" / "lamm_pdb_subset_train.parquet")
    chains = [c for c in table["Sequence"].to_pylist() if 96 <= len(c) <= 512]
    names = cluster_sequences(chains)
    sizes = sorted(names.count(name) for name in set(names))
    assert len(sizes) > 0.6 * len(chains)
    assert sizes[-1] < 0.1 * len(chains)


@pytest.mark.slow
def test_real_chains_with_tags_do_not_collapse(shared_data):
    folder = shared_data / "protein_ss"
    files = sorted(folder.glob("netsurfp2_ss3_*.parquet"))
    chains = [c for file in files for c in pq.read_table(file)["Sequence"].to_pylist()]
    names = np.unique(cluster_sequences(chains), return_counts=True)[1]
    assert len(names) > 0.9 * len(chains)
    assert names.max() < 0.01 * len(chains)
