"""The three sources of rows behind one function: mini, local and hub."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from fseed.config.schema import DataConfig, SourceKind
from fseed.tasks.base import DataSet, Setting, Task
from fseed.tasks.hub import fingerprint_hub, open_hub
from fseed.tasks.local import fingerprint_local, open_local
from fseed.tasks.rows import ListRows, Rows

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """Rows by split as they are stored.

    A generated source has the splits asked for, in their final size and order. The others have what
    is published, from which ``splits.build_pools`` makes all three.
    """

    rows: dict[str, Rows]
    is_generated: bool


def open_source(
    task: Task, data: DataConfig, *, order: str, options: object, splits: Sequence[str]
) -> Source:
    """Return the rows of the configured source; raises ``UserError``."""
    dataset = task.dataset(options)
    if data.source is SourceKind.mini:
        rows: dict[str, Rows] = {}
        for split in splits:
            setting = Setting(split=split, order=order, options=options, seed=data.seed)
            stream = islice(task.generate_mini(setting), wanted_examples(data, split))
            rows[split] = ListRows(list(stream), next(iter(task.datasets.values())).columns)
        return Source(rows, is_generated=True)
    if data.source is SourceKind.local:
        return Source(open_local(dataset, data.root), is_generated=False)
    return Source(open_hub(dataset), is_generated=False)


def fingerprint_source(task: Task, dataset: DataSet, data: DataConfig) -> str:
    """Return a SHA-256 of where the rows come from; raises ``UserError``.

    What is chosen of them or generated with them (sizes, order, options) is part of the
    configuration, not of the fingerprint.
    """
    if data.source is SourceKind.mini:
        facts = ["mini", task.name, task.mini_version, data.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if data.source is SourceKind.local:
        return fingerprint_local(dataset, data.root)
    return fingerprint_hub(dataset)


def wanted_examples(data: DataConfig, split: str) -> int:
    """Return the configured number of examples of a split."""
    return int(getattr(data, f"num_{split}"))
