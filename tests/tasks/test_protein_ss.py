from collections import Counter
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_helpers import Bytes, PlainBuild, data_config, task_config, write_jsonl, write_parquet

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.protein_chains import chain_id
from fseed.tasks.protein_mini import generate_structures
from fseed.tasks.protein_ss import (
    EIGHT_STATES,
    PROTEIN_SS,
    THREE_STATES,
    TO_THREE,
    ProteinSsOptions,
    build_example,
    pool_macro_f1,
    pool_q3,
    read_key,
)
from fseed.tasks.registry import load_task_data
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction
from fseed.tasks.sections import render_prompt

CHAIN = "MKTAYIAKQRGDPGVW"
LABELS = "~HHHHIGGTTSSBBEE"
SMALL = {"num_queries": 6, "num_notes": 2, "min_residues": 16, "max_residues": 40}

TASK_TEXT = """Sequence:
MKTAYIAKQRGDPGVW

Positions:
4 3 8 16 12 14"""

NOTES = """Notes:
GSHMLEDPVVKW
WWCC"""


def make_chain(chain=CHAIN, labels=LABELS, **more):
    return {"Sequence": chain, "Secondary_structure": labels} | more


def make_build(order="filler_last", **changes):
    options = ProteinSsOptions(**(SMALL | changes))
    return PlainBuild(order=order, options=options, notes=("GSHMLEDPVVKW", "WWCC", "unused"))


def encode(example, order="filler_last", limit=1000):
    return encode_example(
        example,
        PROTEIN_SS.orders[order],
        tokenizer=Bytes(),
        max_length_tokens=limit,
        max_answer_tokens=48,
    )


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


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"states": 4}, "states=4: must be 8 or 3"),
        ({"dataset": "netsurfp2"}, "states=8: must be 3, data set netsurfp2 has no more"),
        ({"num_queries": 0}, r"num_queries=0: must be 1\.\.24"),
        ({"num_queries": 25}, r"num_queries=25: must be 1\.\.24"),
        ({"num_notes": 0}, r"num_notes=0: must be 1\.\.16"),
        ({"min_residues": 8}, r"min_residues=8: must be 16\.\.48"),
        ({"max_residues": 9999}, r"max_residues=9999: must be 16\.\.4096"),
        ({"dataset": "lam"}, "task.options.dataset=lam: unknown for protein_ss; did you mean"),
    ],
)
def test_wrong_options_are_refused(options, reason):
    config = make_config()
    config.options |= options
    with pytest.raises(UserError, match=reason):
        load_task_data(config, data_config(), Bytes())


def test_pools_of_no_rows_have_no_value():
    assert pool_macro_f1([]) is None
    assert pool_q3([]) is None


@pytest.mark.parametrize("order", ["filler_last", "q_first"])
@pytest.mark.parametrize("states", [8, 3])
def test_mini_works_end_to_end(order, states):
    config = make_config(order=order)
    config.options["states"] = states
    data = load_task_data(config, data_config(), Bytes(), splits=("train", "validation", "test"))
    assert {name: len(examples) for name, examples in data.splits.items()} == {
        "train": 20,
        "validation": 10,
        "test": 5,
    }
    for name, examples in data.splits.items():
        assert not data.preflight.splits[name].dropped
        assert not data.preflight.splits[name].overlap
        for example in examples:
            text = bytes(example.prompt_ids).decode()
            chain, notes = text.split("Sequence:\n")[1].split("\n")[0], _notes(text)
            assert len(notes) == 2
            assert not _runs(chain) & _runs(*notes)
            assert len(example.units) == 16
    assert 0 < data.constant_baseline["residue_accuracy"] < 0.6
    # repeating the label before: no better than the constant, because the order is random
    constant, copied = data.constant_baseline, data.copy_baseline
    assert 0.1 < copied["residue_accuracy"] < constant["residue_accuracy"] + 0.1


def _notes(text):
    return text.split("Notes:\n")[1].split("\n\n")[0].split("\n")


def _runs(*chains):
    return {chain[start : start + 8] for chain in chains for start in range(len(chain) - 7)}


def test_orders_ask_the_same():
    one, other = (
        load_task_data(make_config(order=order), data_config(), Bytes()).splits["train"]
        for order in ("q_after", "task_last")
    )
    assert [example.answers for example in one] == [example.answers for example in other]
    assert one[0].prompt_ids != other[0].prompt_ids
    assert sorted(one[0].prompt_ids) == sorted(other[0].prompt_ids)


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_local_rows_are_divided_and_bad_ones_counted(tmp_path, write):
    good = make_rows(120)
    bad = [
        good[0] | {"PDB_ID": None},
        make_chain("MKTAYIAKQR", "H" * 9),
        make_chain("MKTAYIAKQR", "HHHHHHHHHC"),
        make_chain("", ""),
    ]
    rows = [
        {"Sequence": r["Sequence"], "Secondary_structure": r["Secondary_structure"]}
        for r in good + bad
    ]
    write(tmp_path / "protein_ss", "train", rows)
    config = data_config(SourceKind.local, root=str(tmp_path), num_train=60)
    data = load_task_data(make_config(), config, Bytes(), splits=("train", "validation", "test"))
    dropped = sum((Counter(report.dropped) for report in data.preflight.splits.values()), Counter())
    assert dropped == {
        "repeated id": 1,
        "sequence and labels differ in length": 1,
        "label outside the alphabet": 1,
        "empty sequence": 1,
    }
    ids = [{e.example_id for e in examples} for examples in data.splits.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 75


def test_relatives_never_stand_in_two_splits(tmp_path):
    rows = []
    for row in make_rows(60):
        chain, labels = row["Sequence"], row["Secondary_structure"]
        # a family of three: the chain, one without its end, one with another beginning
        rows += [make_chain(chain, labels), make_chain(chain[:-1], labels[:-1])]
        rows.append(make_chain("WW" + chain[2:], "EE" + labels[2:]))
    write_parquet(tmp_path / "protein_ss", "train", rows)
    config = data_config(SourceKind.local, root=str(tmp_path), num_train=40)
    data = load_task_data(make_config(), config, Bytes(), splits=("train", "validation", "test"))
    middles = [
        {bytes(e.prompt_ids).decode().split("\n")[1][4:20] for e in examples}
        for examples in data.splits.values()
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert middles[one].isdisjoint(middles[other])


@pytest.mark.parametrize(
    ("dataset", "states", "sizes"),
    [
        ("lamm", 8, (60, 20, 10)),
        ("porter6", 8, (60, 20, 10)),
        pytest.param("netsurfp2", 3, (60, 20, 10), marks=pytest.mark.slow),
    ],
)
def test_real_rows(shared_data, dataset, states, sizes):
    config = make_config(
        max_length_tokens=2048, max_answer_tokens=48, options={"dataset": dataset, "states": states}
    )
    counts = dict(zip(("num_train", "num_validation", "num_test"), sizes, strict=True))
    source = data_config(SourceKind.local, root=str(shared_data), **counts)
    data = load_task_data(config, source, Bytes(), splits=("train", "validation", "test"))
    assert tuple(len(examples) for examples in data.splits.values()) == sizes
    for report in data.preflight.splits.values():
        allowed = ("chain shorter", "chain longer", "fewer than 48 resolved")
        assert all(reason.startswith(allowed) for reason in report.dropped)
    assert 0.2 < data.constant_baseline["residue_accuracy"] < 0.6


def test_real_masks_are_honoured(shared_data):
    table = pq.read_table(shared_data / "protein_ss" / "netsurfp2_ss3_test.parquet").slice(0, 40)
    options = ProteinSsOptions(dataset="netsurfp2", states=3)
    num_seen = 0
    for row in table.to_pylist():
        try:
            example = build_example(row, PlainBuild(options=options, notes=["A"] * 16))
        except RowProblem:
            assert row["Mask"].count("1") < 48 or not 96 <= len(row["Sequence"]) <= 512
            continue
        places = example.sections["queries"].paragraphs[0].sentences[0].split()
        chosen = [int(place) - 1 for place in places]
        assert {row["Mask"][place] for place in chosen} == {"1"}
        assert example.answers[0] == "".join(row["Secondary_structure"][p] for p in chosen)
        num_seen += 1
    assert num_seen > 30
    assert pa.types.is_string(table.schema.field("Mask").type)
