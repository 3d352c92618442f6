import pytest
from structure_helpers import CHAIN, LABELS, make_build, make_chain, make_rows
from task_helpers import Bytes

from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.protein_chains import chain_id
from fseed.tasks.protein_ss import (
    EIGHT_STATES,
    PROTEIN_SS,
    THREE_STATES,
    TO_THREE,
    build_example,
    pool_macro_f1,
    pool_q3,
    read_key,
)
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction
from fseed.tasks.sections import render_prompt

TASK_TEXT = """Sequence:
MKTAYIAKQRGDPGVW

Positions:
4 3 8 16 12 14"""
NOTES = """Notes:
GSHMLEDPVVKW
WWCC"""


def encode(example, order="filler_last", limit=1000):
    return encode_example(
        example,
        PROTEIN_SS.orders[order],
        tokenizer=Bytes(),
        max_length_tokens=limit,
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
    assert render_prompt(example, PROTEIN_SS.orders[order]) == golden
    assert example.answers == ("HHGESB",)
    encoded = encode(example, order)
    assert bytes(encoded.answer_ids) == b"HHGESB\0"
    assert bytes(encoded.label_ids).decode() == EIGHT_STATES
    # wrong: G for H and ~ for S (the same among three), S for E
    guess = list(b"GHGS~B\0")
    row = score_prediction(
        PROTEIN_SS,
        encoded,
        Prediction(token_ids=guess, label_ids=guess[:-1], loss_sum=7.0),
        tokenizer=Bytes(),
    )
    # F1: H 2/3, G 2/3, B 1; S, ~ and E 0
    assert pool_metrics(PROTEIN_SS.metrics, [row]) == {
        "residue_accuracy": {"value": 0.5, "n": 6},
        "q3": {"value": pytest.approx(5 / 6), "n": 6},
        "macro_f1": {"value": pytest.approx((2 / 3 + 2 / 3 + 1) / 6), "n": 6},
        "full_vocabulary_accuracy": {"value": 0.5, "n": 6},
        "end_of_text_accuracy": {"value": 1.0, "n": 1},
        "loss": {"value": 1.0, "n": 7},
    }
    add_items(PROTEIN_SS.metrics["residue_accuracy"], [row])
    assert (row["score"], row["weight"]) == (3, 6)


def test_three_states_are_those_of_the_eight():
    example = build_example(make_chain(), make_build(states=3))
    assert example.answers == ("HHHECE",)
    assert "".join(example.labels) == THREE_STATES
    assert {label: TO_THREE[label] for label in EIGHT_STATES} == dict(
        zip("GHIBEST~", "HHHEECCC", strict=True)
    )
    for label in THREE_STATES:
        assert TO_THREE[label] == label


def test_each_answer_is_the_label_of_its_position():
    example = build_example(make_chain(), make_build(num_queries=16))
    places = [
        int(place) for place in example.sections["queries"].paragraphs[0].sentences[0].split()
    ]
    assert sorted(places) == list(range(1, 17))
    assert places != sorted(places)
    assert example.answers == ("".join(LABELS[place - 1] for place in places),)


def test_queries_are_different_in_random_order_and_vary_with_the_chain():
    seen = set()
    for row in make_rows(20):
        text = (
            build_example(row, make_build(max_residues=48))
            .sections["queries"]
            .paragraphs[0]
            .sentences[0]
        )
        places = [int(place) for place in text.split()]
        assert len(set(places)) == len(places) == 6
        assert 1 <= min(places) <= max(places) <= len(row["Sequence"])
        seen.add(text)
    assert len(seen) > 15


def test_masked_residues_are_never_asked_for():
    labels = "CCCCHHHHHHHHEECC"
    mask = "0001110011100000"
    row = make_chain(labels=labels, Mask=mask)
    build = make_build(dataset="netsurfp2", states=3)
    example = build_example(row, build)
    assert example.sections["queries"].paragraphs[0].sentences == ("11 5 6 10 9 4",)
    assert example.answers == ("HHHHHC",)
    with pytest.raises(RowProblem, match=r"^fewer than 7 resolved residues$"):
        build_example(row, make_build(dataset="netsurfp2", states=3, num_queries=7))


def test_notes_are_cut_before_anything_else():
    example = build_example(make_chain(), make_build())
    whole = encode(example)
    assert not whole.is_cut
    size = len(whole.prompt_ids) + len(whole.answer_ids)
    cut = encode(example, limit=size - 1)
    assert cut.is_cut
    assert bytes(cut.prompt_ids).decode() == (f"{TASK_TEXT}\n\nNotes:\nGSHMLEDPVVKW\n\nAnswer:\n")
    with pytest.raises(RowProblem, match="does not fit"):
        encode(example, limit=len(TASK_TEXT))


def test_id_is_a_hash_of_the_chain_and_case_means_nothing():
    key = read_key(make_chain(CHAIN.lower(), PDB_ID=None))
    assert key.row_id == chain_id(CHAIN)
    assert key.sequence == CHAIN
    assert build_example(make_chain(CHAIN.lower()), make_build()) == build_example(
        make_chain(), make_build()
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (make_chain(""), "empty sequence"),
        (make_chain(None), "empty sequence"),
        (make_chain("MKTAYIAK*RGDPGVW"), "residue outside the alphabet"),
        (make_chain(labels=LABELS[1:]), "sequence and labels differ in length"),
        (make_chain(labels=None), "sequence and labels differ in length"),
        (make_chain(labels=LABELS[1:] + "C"), "label outside the alphabet"),
        (make_chain(labels=LABELS[1:] + " "), "label outside the alphabet"),
        (make_chain(labels=LABELS[1:] + "h"), "label outside the alphabet"),
        (make_chain(labels="H" * 15 + "G", Mask="1" * 16), "label outside the alphabet"),
        (make_chain(labels="C" * 16, Mask="1" * 15), "sequence and mask differ in length"),
        (make_chain(labels="C" * 16, Mask=None), "sequence and mask differ in length"),
        (
            make_chain(labels="C" * 16, Mask="1" * 15 + "x"),
            "mask with other characters than 0 and 1",
        ),
    ],
)
def test_unusable_keys_say_why(row, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key(row)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"min_residues": 17}, "chain shorter than 17 residues"),
        ({"max_residues": 16, "min_residues": 16}, None),
        ({"chain": CHAIN + CHAIN + CHAIN}, "chain longer than 40 residues"),
    ],
)
def test_chains_outside_the_length_limits_are_refused(changes, reason):
    chain = changes.pop("chain", CHAIN)
    row = make_chain(chain, "H" * len(chain))
    if reason is None:
        assert build_example(row, make_build(**changes)).answers == ("HHHHHH",)
    else:
        with pytest.raises(RowProblem, match=f"^{reason}$"):
            build_example(row, make_build(**changes))


def test_pools_of_no_rows_have_no_value():
    assert pool_macro_f1([]) is None
    assert pool_q3([]) is None
