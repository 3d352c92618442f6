"""Runs of every status whose files are old enough to be kept, and what a cache holds of them."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fseed.records import scan
from fseed.results import index
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep


def make_runs(root: Path) -> list[Path]:
    """Write runs of every status and return their folders."""
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(root, RunSpec(arm="raw_l10"))
    start_run(root, RunSpec(arm="raw_l10", seed=1))
    finish_run(root, RunSpec(arm="nan", scores={"loss": float("nan")}))
    torn = finish_run(root, RunSpec(arm="torn", loss=3.5)) / "metrics.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"step": 41, "lo')
    damaged = finish_run(root, RunSpec(arm="damaged", loss=4.5)) / "result.json"
    damaged.write_text("{")
    return settle(root)


def settle(root: Path) -> list[Path]:
    """Make all files old enough to be believed and return the run folders."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))
    return scan([root]).run_dirs


def assert_same(left: Any, right: Any) -> None:
    """Compare nested dataclasses with arrays, field by field and bit by bit."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()
    elif hasattr(left, "__dataclass_fields__"):
        for field in fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    else:
        assert repr(left) == repr(right)


def num_kept(cache: Path) -> int:
    """Return the number of runs in a cache file."""
    return sum(len(batch.entries) for batch in index._read_cache(cache))
