"""Every fault of a data folder is one clear ``UserError``."""

import dataclasses
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_helpers import (
    make_row,
    make_rows,
    write_data,
    write_jsonl,
    write_parquet,
    write_with_broken_text,
)

from fseed.errors import UserError
from fseed.tasks.hotpot import DISTRACTOR
from fseed.tasks.local import fingerprint_local, open_local


def message_of(root):
    """Return the one message that opening and fingerprinting both raise."""
    with pytest.raises(UserError) as opened:
        open_local(DISTRACTOR, root)
    with pytest.raises(UserError) as printed:
        fingerprint_local(DISTRACTOR, root)
    assert str(opened.value) == str(printed.value)
    assert len(str(opened.value).splitlines()) <= 3
    return str(opened.value)


def test_parquet_and_jsonl_hold_the_same_rows(tmp_path):
    rows = make_rows(0, 5)
    write_parquet(tmp_path / "hotpotqa", "train", rows)
    write_jsonl(tmp_path / "hotpotqa", "validation", rows)
    opened = open_local(DISTRACTOR, str(tmp_path))
    assert opened["train"].take([3, 1]) == opened["validation"].take([3, 1]) == [rows[3], rows[1]]


def test_parquet_is_used_where_both_stand(tmp_path):
    root = write_data(tmp_path)
    write_jsonl(root / "hotpotqa", "train", make_rows(500, 501))
    assert open_local(DISTRACTOR, str(root))["train"].take([0])[0]["id"] == "row0"


def test_no_root():
    assert "data=local needs data.root" in message_of(None)


def test_missing_root(tmp_path):
    assert "no such folder" in message_of(str(tmp_path / "gone"))


def test_missing_data_set_lists_what_is_there(tmp_path):
    (tmp_path / "squad").mkdir()
    assert "has no folder hotpotqa; found: squad" in message_of(str(tmp_path))


def test_empty_root(tmp_path):
    assert "found: nothing" in message_of(str(tmp_path))


def test_root_that_is_the_data_set_itself(tmp_path):
    root = write_data(tmp_path)
    assert "give the folder above it" in message_of(str(root / "hotpotqa"))


def test_missing_file(tmp_path):
    root = write_data(tmp_path)
    (root / "hotpotqa" / "validation.parquet").unlink()
    message = message_of(str(root))
    assert "lacks validation.parquet (or .jsonl); found: train.parquet" in message


def test_missing_columns_are_listed(tmp_path):
    root = write_data(tmp_path)
    rows = [{"id": "a", "question": "b", "text": "c"}]
    write_parquet(root / "hotpotqa", "train", rows)
    message = message_of(str(root))
    assert "lacks the columns answer, type, supporting_facts, context" in message
    assert "found: id, question, text" in message


def test_wrong_column_type(tmp_path):
    root = write_data(tmp_path)
    write_parquet(root / "hotpotqa", "validation", [make_row(1, context="text")])
    assert "wrong type in the column context; wanted context: struct(" in message_of(str(root))


@pytest.mark.parametrize("size", [0, 3, 400])
def test_truncated_parquet(tmp_path, size):
    root = write_data(tmp_path)
    path = root / "hotpotqa" / "train.parquet"
    path.write_bytes(path.read_bytes()[:size])
    assert "train.parquet cannot be read as parquet (" in message_of(str(root))


def test_damaged_parquet_page(tmp_path):
    root = write_data(tmp_path)
    path = root / "hotpotqa" / "train.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as parquet"):
        list(open_local(DISTRACTOR, str(root))["train"].read_keys())


def test_broken_json_line_is_named(tmp_path):
    root = write_data(tmp_path)
    folder = root / "hotpotqa"
    (folder / "train.parquet").unlink()
    write_jsonl(folder, "train", make_rows(0, 2))
    with (folder / "train.jsonl").open("a") as stream:
        stream.write('{"id": "cut\n')
    assert "train.jsonl:3 is not a JSON object on one line" in message_of(str(root))


@pytest.mark.parametrize("first", [{"id": "a"}, ["a"], "a"])
def test_jsonl_without_the_columns(tmp_path, first):
    root = write_data(tmp_path)
    (root / "hotpotqa" / "train.parquet").unlink()
    write_jsonl(root / "hotpotqa", "train", [first])
    assert "lacks the columns" in message_of(str(root))


def test_large_strings_and_integers_are_accepted(tmp_path):
    root = write_data(tmp_path)
    path = root / "hotpotqa" / "train.parquet"
    table = pq.read_table(path)
    table = table.set_column(0, "id", table["id"].cast(pa.large_string()))
    pq.write_table(table, path)
    assert open_local(DISTRACTOR, str(root))["train"].take([0])[0]["id"] == "row0"


def test_fingerprint_follows_the_bytes_and_not_the_place(tmp_path):
    root = write_data(tmp_path / "one")
    before = fingerprint_local(DISTRACTOR, str(root))
    shutil.copytree(root, tmp_path / "two")
    assert fingerprint_local(DISTRACTOR, str(tmp_path / "two")) == before
    write_parquet(root / "hotpotqa", "validation", make_rows(1000, 1039))
    assert fingerprint_local(DISTRACTOR, str(root)) != before


def test_fingerprint_sees_a_change_that_keeps_the_size(tmp_path):
    rows = make_rows(10, 14)
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "hotpotqa", split, rows)
    before = fingerprint_local(DISTRACTOR, str(tmp_path))
    write_jsonl(tmp_path / "hotpotqa", "train", rows[::-1])
    assert fingerprint_local(DISTRACTOR, str(tmp_path)) != before


def keys_of(rows):
    return [None if row is None else row["id"] for row in rows.read_keys()]


@pytest.mark.parametrize("column", ["question", "level"])
def test_parquet_text_that_is_no_utf8_is_a_malformed_row(tmp_path, column):
    """``question`` is a key, ``level`` is read with the whole row alone."""
    root = write_data(tmp_path)
    write_with_broken_text(root / "hotpotqa", "train", column=column, at=1, count=3)
    rows = open_local(DISTRACTOR, str(root))["train"]
    assert [row and row["id"] for row in rows.take([0, 1, 2])] == ["row0", None, "row2"]
    assert keys_of(rows)[1] == (None if column == "question" else "row1")
    assert len(fingerprint_local(DISTRACTOR, str(root))) == 64


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("broken", [b'{"id": "\xff"}', b'{"id": "\\ud800"}', b"null"])
def test_json_lines_that_are_no_utf8_are_malformed_rows(tmp_path, broken, at):
    root = write_data(tmp_path)
    (root / "hotpotqa" / "train.parquet").unlink()
    lines = [json.dumps(row).encode() for row in make_rows(0, 2)]
    lines.insert(at, broken)
    (root / "hotpotqa" / "train.jsonl").write_bytes(b"\n".join(lines))
    keys = keys_of(open_local(DISTRACTOR, str(root))["train"])
    assert keys.pop(at) is None
    assert keys == ["row0", "row1"]


def test_escapes_of_whole_letters_are_read(tmp_path):
    root = write_data(tmp_path)
    (root / "hotpotqa" / "train.parquet").unlink()
    rows = [make_row(0, answer="\u00e9 \U0001f600 \\u")]
    write_jsonl(root / "hotpotqa", "train", rows)
    assert open_local(DISTRACTOR, str(root))["train"].take([0]) == rows


def test_a_split_has_the_first_of_its_file_names(tmp_path):
    files = {"train": ("train",), "validation": ("valid", "dev"), "test": ("test",)}
    dataset = dataclasses.replace(DISTRACTOR, files=files, required=("train",))
    folder = write_data(tmp_path) / "hotpotqa"
    assert set(open_local(dataset, str(tmp_path))) == {"train"}
    write_jsonl(folder, "dev", make_rows(50, 51))
    assert keys_of(open_local(dataset, str(tmp_path))["validation"]) == ["row50"]
    write_jsonl(folder, "valid", make_rows(60, 61))
    assert keys_of(open_local(dataset, str(tmp_path))["validation"]) == ["row60"]


def test_only_required_files_must_be_there(tmp_path):
    dataset = dataclasses.replace(DISTRACTOR, required=("validation",))
    (write_data(tmp_path) / "hotpotqa" / "train.parquet").unlink()
    assert set(open_local(dataset, str(tmp_path))) == {"validation"}
