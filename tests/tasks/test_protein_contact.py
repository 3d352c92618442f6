from collections import Counter
from dataclasses import replace
from itertools import combinations, islice

import numpy as np
import pyarrow.parquet as pq
import pytest
from task_helpers import Bytes, PlainBuild, data_config, task_config, write_jsonl, write_parquet

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.protein_chains import chain_id
from fseed.tasks.protein_contact import (
    PROTEIN_CONTACT,
    ProteinContactOptions,
    balanced_items,
    build_example,
    list_pairs,
    pool_auroc,
    pool_balanced_accuracy,
    pool_precision,
    read_key,
)
from fseed.tasks.protein_mini import generate_contacts
from fseed.tasks.registry import load_task_data
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction
from fseed.tasks.sections import render_prompt

CHAIN = "MKTAYIAKQRGDPGVWLE"
NAN = float("nan")
SMALL = {"num_pairs": 4, "num_notes": 2, "min_residues": 16, "max_residues": 40}

TASK_TEXT = """Sequence:
MKTAYIAKQRGDPGVWLE

Pairs:
3-14 4-17 6-14 1-18"""

NOTES = """Notes:
GSHMLEDPVVKW
WWCC"""


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


def encode(example, order="filler_last"):
    return encode_example(
        example,
        PROTEIN_CONTACT.orders[order],
        tokenizer=Bytes(),
        max_length_tokens=1000,
        max_answer_tokens=48,
    )


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


def score(gold, predicted, label_scores=None):
    return {"gold": gold, "predicted": predicted, "label_scores": label_scores}


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


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sampling": "random"}, "sampling=random: must be balanced or natural"),
        ({"num_pairs": 0}, r"num_pairs=0: must be 2\.\.34"),
        ({"num_pairs": 36}, r"num_pairs=36: must be 2\.\.34"),
        ({"num_notes": 17}, r"num_notes=17: must be 1\.\.16"),
        ({"min_residues": 50}, r"min_residues=50: must be 16\.\.40"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    config = make_config()
    config.options |= options
    with pytest.raises(UserError, match=f"^protein_contact: task.options.{reason}$"):
        load_task_data(config, data_config(), Bytes())


def test_balanced_accuracy_by_hand():
    # gold 1: two of three right; gold 0: three of five right
    rows = [score("1100", "1010"), score("1000", "1001")]
    assert pool_balanced_accuracy(rows).value == pytest.approx((2 / 3 + 3 / 5) / 2)
    assert pool_balanced_accuracy(rows).n == 8


def test_items_add_up_to_the_balanced_accuracy():
    rng = np.random.default_rng([1])
    rows = [
        score(*("".join("01"[int(bit)] for bit in rng.random(8) < share) for share in (0.2, 0.4)))
        for _ in range(30)
    ]
    items = balanced_items(rows)
    total = sum(weight for _, weight in items)
    assert sum(value for value, _ in items) / total == pytest.approx(
        pool_balanced_accuracy(rows).value
    )
    assert [weight for _, weight in items] == [8] * 30


def test_weights_of_items_depend_on_the_gold_bits_alone():
    one = balanced_items([score("1000", "1000"), score("0000", "0000")])
    other = balanced_items([score("1000", "0000"), score("0000", "0011")])
    # a right contact weighs 8 / 2, a right other pair 8 / 14
    assert one == [pytest.approx((4 + 3 * 4 / 7, 4)), pytest.approx((4 * 4 / 7, 4))]
    assert other == [pytest.approx((3 * 4 / 7, 4)), pytest.approx((2 * 4 / 7, 4))]


def test_one_gold_bit_only_has_no_balanced_accuracy():
    rows = [score("000", "010"), score("0", "0")]
    assert pool_balanced_accuracy(rows) is None
    assert balanced_items(rows) == [None, None]


def test_area_under_the_curve_pools_all_pairs_and_skips_rows_without_scores():
    rows = [score("10", "11", [0.9, 0.6]), score("10", "00", [0.4, 0.1]), score("11", "11")]
    # of four pairs of a contact and another, 0.4 loses to 0.6
    assert pool_auroc(rows) == (pytest.approx(0.75), 4)
    assert pool_auroc(rows[2:]) is None
    assert pool_auroc([]) is None


def test_precision_counts_the_predicted_contacts():
    assert pool_precision([score("1100", "1010"), score("10", "10")]) == (pytest.approx(2 / 3), 3)
    assert pool_precision([score("1100", "0000")]) is None


@pytest.mark.parametrize("order", ["q_after", "task_last"])
@pytest.mark.parametrize("sampling", ["balanced", "natural"])
def test_mini_works_end_to_end(order, sampling):
    config = make_config(order=order)
    config.options["sampling"] = sampling
    data = load_task_data(config, data_config(), Bytes(), splits=("train", "validation", "test"))
    assert [len(examples) for examples in data.splits.values()] == [20, 10, 5]
    for report in data.preflight.splits.values():
        assert not report.dropped
        assert not report.overlap
    assert all(len(e.units) == 16 for examples in data.splits.values() for e in examples)
    assert data.constant_baseline["balanced_accuracy"] == pytest.approx(0.5)
    assert data.constant_baseline["auroc"] == pytest.approx(0.5)
    # repeating the bit before: no better than chance, because the order is random
    assert 0.35 < data.copy_baseline["balanced_accuracy"] < 0.65


def test_full_size_options_work_on_mini():
    config = make_config(max_length_tokens=1536, max_answer_tokens=48, options={})
    data = load_task_data(config, data_config(), Bytes())
    assert all(len(example.units) == 48 for example in data.splits["train"])


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_local_rows_are_divided_and_bad_ones_counted(tmp_path, write):
    good = make_rows(100)
    bad = [
        make_chain(valid_mask=[True] * 3),
        good[0],
        make_chain(seq="W" * 30, tertiary=[[NAN] * 3] * 30, valid_mask=[True] * 30),
    ]
    write(tmp_path / "protein_contact", "train", good[:70] + bad)
    write(tmp_path / "protein_contact", "valid", [*good[70:], good[0]])
    # every row is wanted, so that every row is tried
    config = data_config(SourceKind.local, root=str(tmp_path), num_train=69)
    data = load_task_data(make_config(), config, Bytes(), splits=("train", "validation", "test"))
    dropped = sum((Counter(report.dropped) for report in data.preflight.splits.values()), Counter())
    assert dropped["sequence and mask differ in length"] == 1
    assert dropped["repeated id"] == 1
    assert sum(Counter(data.preflight.splits["train"].overlap).values()) == 1
    assert len(data.splits["train"]) == 69


@pytest.mark.parametrize("sampling", ["balanced", "natural"])
def test_real_rows(shared_data, sampling):
    config = make_config(
        max_length_tokens=1536, max_answer_tokens=48, options={"sampling": sampling}
    )
    source = data_config(
        SourceKind.local, root=str(shared_data), num_train=60, num_validation=20, num_test=20
    )
    data = load_task_data(config, source, Bytes(), splits=("train", "validation", "test"))
    assert [len(examples) for examples in data.splits.values()] == [60, 20, 20]
    bits = "".join(e.answers[0] for examples in data.splits.values() for e in examples)
    low, high = (0.46, 0.54) if sampling == "balanced" else (0.01, 0.05)
    assert low < bits.count("1") / len(bits) < high


def test_real_bits_are_the_contacts(shared_data):
    table = pq.read_table(shared_data / "protein_contact" / "valid.parquet").slice(0, 4)
    for row in table.to_pylist():
        example = build_example(row, PlainBuild(options=ProteinContactOptions(), notes=["A"] * 16))
        known = slow_contacts(row)
        assert example.answers[0] == "".join(known[pair] for pair in pairs_of(example))
