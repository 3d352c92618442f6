"""Whole data sets of ``protein_ss``: generated, local and real rows."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structure_helpers import make_chain, make_config, make_rows
from task_helpers import Bytes, PlainBuild, data_config, write_jsonl, write_parquet

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem
from fseed.tasks.protein_ss import ProteinSsOptions, build_example
from fseed.tasks.registry import load_task_data


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
