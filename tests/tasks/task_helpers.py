"""Rows, files, configurations and tokenizers for the tests of ``fseed.tasks``."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fseed.config.schema import DataConfig, SourceKind, TaskConfig
from fseed.tasks.base import EncodedExample, Setting
from fseed.tasks.near_duplicates import normalize_question
from fseed.tasks.splits import Pool


class Bytes:
    """One token a byte."""

    end_of_text = 0
    fingerprint = "bytes"

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()


class Words:
    """One token a word with its leading space, so that pieces and whole differ in length."""

    end_of_text = 0
    fingerprint = "words"

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(r"\s*\w+[.:?]*\s*|\s+|\W", text)
        return [self.ids.setdefault(piece, len(self.ids) + 1) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        pieces = {number: piece for piece, number in self.ids.items()}
        return "".join(pieces[number] for number in ids)


class PlainBuild:
    """A ``base.Build`` without a pool: the notes are those given, in order."""

    def __init__(
        self,
        *,
        split: str = "train",
        order: str = "question_last",
        options: Any = None,
        seed: int = 0,
        notes: Sequence[str] = (),
    ) -> None:
        self.setting = Setting(split=split, order=order, options=options, seed=seed)
        self.notes = list(notes)

    def generator(self, row_id: str) -> np.random.Generator:
        return np.random.default_rng([self.setting.seed, *row_id.encode()])

    def draw_notes(self, row_id: str, *, num: int, own: Sequence[str]) -> list[str]:
        return self.notes[:num]


def encoded(answer: str, kind: str = "only", **facts: Any) -> EncodedExample:
    """Return an encoded example whose answer is one byte a token, every byte a unit."""
    ids = [*answer.encode(), Bytes.end_of_text]
    defaults = {
        "example_id": answer,
        "kind": kind,
        "prompt_ids": [1],
        "answer_ids": ids,
        "answers": (answer,),
        "units": tuple(range(len(ids) - 1)),
    }
    return EncodedExample(**(defaults | facts))


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a bridge row whose names and question no other number shares."""
    title, friend = f"Alpha{number}", f"Beta{number}"
    row = {
        "id": f"row{number}",
        "question": f"In which harbour does the keeper named kappa{number} moor lambda{number}?",
        "answer": f"Port {number}",
        "type": "bridge" if number % 3 else "comparison",
        "level": "hard",
        "supporting_facts": {"title": [title, friend], "sent_id": [1, 0]},
        "context": {
            "title": ["Moss", title, friend],
            "sentences": [
                ["Moss grows on stone.", " It is green."],
                [f"Alpha{number} is a keeper.", f" Its friend is Beta{number}.", " It is old."],
                [f"Beta{number} moors in Port {number}.", " It floats."],
            ],
        },
    }
    return row | changes


def make_rows(start: int, stop: int) -> list[dict[str, Any]]:
    return [make_row(number) for number in range(start, stop)]


def write_parquet(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def write_with_broken_text(folder: Path, split: str, *, column: str, at: int, count: int) -> None:
    """Write ``count`` rows as parquet; ``column`` of row ``at`` has a byte that is no UTF-8."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(make_rows(0, count))
    place = table.schema.get_field_index(column)
    texts = [text.encode() for text in table[column].to_pylist()]
    texts[at] = b"\xff" + texts[at]
    broken = string_array(texts)
    pq.write_table(table.set_column(place, column, broken), folder / f"{split}.parquet")


def string_array(texts: Sequence[bytes]) -> pa.Array:
    """Return the bytes as an Arrow string array without a look at their encoding."""
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def write_jsonl(folder: Path, split: str, rows: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def write_data(root: Path, *, num_train: int = 40, num_validation: int = 40) -> Path:
    """Write a clean local data set and return ``data.root``."""
    folder = root / "hotpotqa"
    write_parquet(folder, "train", make_rows(0, num_train))
    write_parquet(folder, "validation", make_rows(1000, 1000 + num_validation))
    return root


def task_config(**changes: Any) -> TaskConfig:
    facts = {
        "name": "hotpot",
        "order": "question_last",
        "max_length_tokens": 320,
        "max_answer_tokens": 48,
    }
    return TaskConfig(**(facts | changes))


def data_config(source: SourceKind = SourceKind.mini, **changes: Any) -> DataConfig:
    facts = {"num_train": 20, "num_validation": 10, "num_test": 5}
    return DataConfig(source=source, **(facts | changes))


def row_ids(pool: Pool) -> set[str]:
    return {key.row_id for _, key in pool.entries}


def assert_disjoint(pools: Mapping[str, Pool]) -> None:
    """Assert that no two splits share an id, a question or a gold paragraph."""
    for left, right in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        for read in (
            lambda key: {key.row_id},
            lambda key: {normalize_question(key.text)} - {""},
            lambda key: key.groups,
        ):
            shared = set.intersection(
                *(
                    set().union(*(read(key) for _, key in pools[name].entries))
                    for name in (left, right)
                )
            )
            assert not shared, (left, right, shared)
