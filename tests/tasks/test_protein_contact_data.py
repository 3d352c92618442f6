"""Whole data sets of ``protein_contact``: generated, local and real rows."""

from collections import Counter

import pyarrow.parquet as pq
import pytest
from contact_helpers import NAN, make_chain, make_config, make_rows, pairs_of, slow_contacts
from task_helpers import Bytes, PlainBuild, data_config, write_jsonl, write_parquet

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.protein_contact import ProteinContactOptions, build_example
from fseed.tasks.registry import load_task_data


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
