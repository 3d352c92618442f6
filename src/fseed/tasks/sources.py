"""The three sources of rows behind one function: mini, local and hub."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from fseed.config.schema import DataConfig, SourceKind
from fseed.tasks.base import Task
from fseed.tasks.hub import fingerprint_hub, open_hub
from fseed.tasks.local import fingerprint_local, open_local
from fseed.tasks.rows import ListRows, Rows

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """Rows by split as they are stored.

    A generated source has the splits asked for, in their final size and order. The others have
    train and validation, from which ``splits.build_pools`` makes three.
    """

    rows: dict[str, Rows]
    is_generated: bool


def open_source(task: Task, data: DataConfig, *, splits: Sequence[str]) -> Source:
    """Return the rows of the configured source; raises ``UserError``."""
    if data.source is SourceKind.mini:
        return Source({split: _generate(task, data, split) for split in splits}, is_generated=True)
    if data.source is SourceKind.local:
        return Source(open_local(task, data.root), is_generated=False)
    return Source(open_hub(task), is_generated=False)


def fingerprint_source(task: Task, data: DataConfig) -> str:
    """Return a SHA-256 that changes whenever the source's rows can; raises ``UserError``.

    Sizes and the choice of rows are part of the configuration, not of the fingerprint.
    """
    if data.source is SourceKind.mini:
        facts = ["mini", task.name, task.mini_version, data.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if data.source is SourceKind.local:
        return fingerprint_local(task, data.root)
    return fingerprint_hub(task)


def wanted_examples(data: DataConfig, split: str) -> int:
    """Return the configured number of examples of a split."""
    return int(getattr(data, f"num_{split}"))


def _generate(task: Task, data: DataConfig, split: str) -> ListRows:
    """Return as many generated rows as the split wants."""
    stream = task.generate_mini(split, seed=data.seed)
    return ListRows(list(islice(stream, wanted_examples(data, split))), task.columns)
