from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from contact_helpers import (
    CHAIN,
    NAN,
    make_build,
    make_chain,
    make_points,
    make_rows,
    pairs_of,
    slow_contacts,
)
from task_helpers import Bytes

from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.protein_chains import chain_id
from fseed.tasks.protein_contact import PROTEIN_CONTACT, build_example, list_pairs, read_key
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction
from fseed.tasks.sections import render_prompt

TASK_TEXT = """Sequence:
MKTAYIAKQRGDPGVWLE

Pairs:
3-14 4-17 6-14 1-18"""
NOTES = """Notes:
GSHMLEDPVVKW
WWCC"""


def encode(example, order="filler_last"):
    return encode_example(
        example,
        PROTEIN_CONTACT.orders[order],
        tokenizer=Bytes(),
        max_length_tokens=1000,
        max_answer_tokens=48,
    )


@pytest.mark.parametrize(
    ("order", "golden"),
    [
        ("filler_last", f"{TASK_TEXT}\n\n{NOTES}\n\nAnswer:\n"),
        ("task_last", f"{NOTES}\n\n{TASK_TEXT}\n\nAnswer:\n"),
    ],
)
def test_golden_prompt_and_score(order, golden):
    example = build_example(make_chain(), make_build(order))
    assert render_prompt(example, PROTEIN_CONTACT.orders[order]) == golden
    assert example.answers == ("0011",)
    encoded = encode(example, order)
    assert bytes(encoded.answer_ids) == b"0011\0"
    assert bytes(encoded.label_ids) == b"01"
    guess = list(b"0001\0")
    row = score_prediction(
        PROTEIN_CONTACT,
        encoded,
        Prediction(
            token_ids=guess, label_ids=guess[:-1], label_scores=[0.3, 0.5, 0.4, 0.9], loss_sum=5.0
        ),
        tokenizer=Bytes(),
    )
    assert pool_metrics(PROTEIN_CONTACT.metrics, [row]) == {
        "balanced_accuracy": {"value": 0.75, "n": 4},
        "auroc": {"value": 0.75, "n": 4},
        "precision": {"value": 1.0, "n": 1},
        "accuracy": {"value": 0.75, "n": 4},
        "full_vocabulary_accuracy": {"value": 0.75, "n": 4},
        "end_of_text_accuracy": {"value": 1.0, "n": 1},
        "loss": {"value": 1.0, "n": 5},
    }
    add_items(PROTEIN_CONTACT.metrics["balanced_accuracy"], [row])
    assert (row["score"], row["weight"]) == (3, 4)


def test_distance_of_exactly_eight_is_a_contact_and_separation_of_seven_is_no_pair():
    points = np.zeros((10, 3))
    points[8], points[9] = (0, 0, 8.0), (0, 0, 8.0001)
    pairs, touching = list_pairs(points, np.ones(10, bool))
    assert pairs.tolist() == [[0, 8], [0, 9], [1, 9]]
    assert touching.tolist() == [True, False, False]


def test_all_pairs_agree_with_a_plain_loop():
    for row in make_rows(5):
        resolved = np.array(row["valid_mask"])
        pairs, touching = list_pairs(np.array(row["tertiary"]), resolved)
        found = {
            (one + 1, other + 1): "01"[int(bit)]
            for (one, other), bit in zip(pairs.tolist(), touching, strict=True)
        }
        assert found == slow_contacts(row)


@pytest.mark.parametrize("sampling", ["balanced", "natural"])
def test_each_bit_is_the_contact_of_its_pair(sampling):
    bits = Counter()
    for row in make_rows(40):
        example = build_example(row, make_build(num_pairs=16, min_residues=24, sampling=sampling))
        pairs, known = pairs_of(example), slow_contacts(row)
        assert len(set(pairs)) == len(pairs)
        assert example.answers[0] == "".join(known[pair] for pair in pairs)
        bits.update(example.answers[0])
    # a quarter of the pairs of generated chains are in contact; within five deviations
    expected, spread = (320, 63) if sampling == "balanced" else (160, 110)
    assert bits.total() == 640
    assert abs(bits["1"] - expected) < spread


def test_bits_given_so_far_do_not_tell_the_next_one():
    row = make_rows(1)[0]
    counts, last = Counter(), Counter()
    for seed in range(400):
        build = make_build(num_pairs=16, min_residues=24)
        build.setting = replace(build.setting, seed=seed)
        bits = build_example(row, build).answers[0]
        counts[bits.count("1")] += 1
        last[bits[:-1].count("1") >= 8, bits[-1]] += 1
    # a binomial of 16 and one half has mean 8, variance 4
    assert np.mean(list(counts.elements())) == pytest.approx(8, abs=0.5)
    assert np.var(list(counts.elements())) == pytest.approx(4, abs=1.5)
    for many in (True, False):
        share = last[many, "1"] / (last[many, "1"] + last[many, "0"])
        assert share == pytest.approx((last[True, "1"] + last[False, "1"]) / 400, abs=0.15)


def test_orders_draw_the_same_pairs_and_chains_others():
    row, other = make_rows(2)
    one = build_example(row, make_build("filler_last"))
    assert one == build_example(row, make_build("task_last"))
    assert pairs_of(one) != pairs_of(build_example(other, make_build()))


def test_unresolved_residues_are_never_asked_for():
    mask = [place not in (0, 3, 17) for place in range(len(CHAIN))]
    # what stands at unresolved residues means nothing, not even a number
    points = [point if flag else [NAN] * 3 for point, flag in zip(make_points(), mask, strict=True)]
    row = make_chain(valid_mask=mask, tertiary=points)
    example = build_example(row, make_build(num_pairs=9, sampling="natural"))
    asked = {place for pair in pairs_of(example) for place in pair}
    assert asked.isdisjoint({1, 4, 18})
    assert all(other - one >= 8 for one, other in pairs_of(example))


def test_id_is_a_hash_of_the_chain():
    key = read_key(make_chain(seq=CHAIN.lower()))
    assert key.row_id == chain_id(CHAIN) == build_example(make_chain(), make_build()).example_id
    assert key.sequence == CHAIN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seq": ""}, "empty sequence"),
        ({"seq": None}, "empty sequence"),
        ({"seq": "MKTA-IAKQRGDPGVWLE"}, "residue outside the alphabet"),
        ({"valid_mask": [True] * 17}, "sequence and mask differ in length"),
        ({"valid_mask": None}, "sequence and mask differ in length"),
        ({"valid_mask": [True] * 17 + [None]}, "mask with missing values"),
    ],
)
def test_unusable_keys_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key(make_chain(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tertiary": make_points()[1:]}, "sequence and coordinates differ in length"),
        ({"tertiary": None}, "sequence and coordinates differ in length"),
        ({"tertiary": [*make_points()[1:], [0.0, 1.0]]}, "residue without three coordinates"),
        ({"tertiary": [*make_points()[1:], None]}, "residue without three coordinates"),
        (
            {"tertiary": [*make_points()[1:], [0.0, NAN, 0.0]]},
            "resolved residue without finite coordinates",
        ),
        (
            {"tertiary": [*make_points()[1:], [0.0, None, 0.0]]},
            "resolved residue without finite coordinates",
        ),
        (
            {"tertiary": [*make_points()[1:], [0.0, float("inf"), 0.0]]},
            "resolved residue without finite coordinates",
        ),
        ({"tertiary": [[0.0, 0.0, 9.0 * step] for step in range(18)]}, "no pair in contact"),
        ({"valid_mask": [False] * 18}, "no pair in contact"),
        ({"tertiary": [[0.0, 0.0, 0.0]] * 18}, "fewer than 2 pairs in contact or not in contact"),
        (
            {"tertiary": [[0.0, 0.0, 9.0 * step] for step in range(17)] + [[0.0] * 3]},
            "fewer than 2 pairs in contact or not in contact",
        ),
        ({"seq": CHAIN[:15]}, "chain shorter than 16 residues"),
        ({"seq": CHAIN * 3}, "chain longer than 40 residues"),
    ],
)
def test_rows_that_give_no_pairs_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        build_example(make_chain(**changes), make_build())


@pytest.mark.parametrize("sampling", ["balanced", "natural"])
def test_chains_with_few_pairs_are_refused(sampling):
    few = [place < 3 or place > 14 for place in range(18)]
    row = make_chain(valid_mask=few)  # nine pairs, most of them in contact
    assert len(build_example(row, make_build(num_pairs=4, sampling=sampling)).answers[0]) == 4
    few[0] = False
    with pytest.raises(RowProblem, match=r"^fewer than 9 pairs$"):
        build_example(row, make_build(num_pairs=9, sampling="natural"))
