"""Rows, files, configurations and tokenizers for the tests of ``fseed.tasks``."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fseed.config.schema import DataConfig, SourceKind, TaskConfig


class Bytes:
    """One token a byte."""

    end_of_text = 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode()


class Words:
    """One token a word with its leading space, so that pieces and whole differ in length."""

    end_of_text = 0

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(r"\s*\w+[.:?]*\s*|\s+|\W", text)
        return [self.ids.setdefault(piece, len(self.ids) + 1) for piece in pieces]


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
