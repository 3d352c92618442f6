"""A sweep of seconds, and everything in its records that no fault may change."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fseed.records import read_metrics, read_run

MODEL = (
    *("model.num_layers=3", "model.width=32", "model.ffn_width=64", "model.head_size=16"),
    *("model.decay_rank=8", "model.in_context_rank=8", "model.value_rank=8", "model.gate_rank=8"),
)
# four runs: baseline and arm of two seeds
WORDS = (
    *("-m", "task=rightcopy", "fs=scalar_l10", "lstart=1", "seed=0,1", "alpha.lr=0.0005", *MODEL),
    *("budget.steps=12", "budget.batch_size=4", "budget.eval_batch_size=4"),
    *("budget.eval_every_steps=4", "budget.checkpoint_every_steps=2"),
    *("data.num_train=24", "data.num_validation=7"),
    *("trainer.progress=false", "trainer.num_threads=1"),
)
NUM_RUNS = 4
VOLATILE_ROWS = {"seconds", "tokens_per_second", "memory_gib"}
VOLATILE_RESULT = {"wall_seconds", "tokens_per_second", "peak_memory_gib", "peak_reserved_gib"}


def run_dirs(root: Path) -> list[Path]:
    """Return the folders of all runs that have begun."""
    return sorted(path for path in root.glob("*/*/*/*/s*-*") if any(path.iterdir()))


def digits_of(folder: Path, *, ignored: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return every number of a finished run but times and memory; the files must be whole."""
    record = read_run(folder)
    assert record.status == "finished", f"{folder}: {record.reason}"
    assert record.result is not None
    rows, torn = read_metrics(folder / "metrics.jsonl")
    assert torn == [], folder
    left_out = VOLATILE_RESULT | ignored
    return {
        "result": {k: v for k, v in record.result.items() if k not in left_out},
        "rows": [{k: v for k, v in row.items() if k not in VOLATILE_ROWS} for row in rows],
        "predictions": (folder / "predictions.parquet").read_bytes(),
    }


def digits(root: Path) -> dict[str, dict[str, Any]]:
    """Return the numbers of all runs by the name of their folder, which is that of their id."""
    return {folder.name: digits_of(folder) for folder in run_dirs(root)}


def starts(folder: Path) -> list[dict[str, Any]]:
    """Return what a run tells of each of its starts."""
    path = folder / "provenance.json"
    return json.loads(path.read_text())["attempts"] if path.exists() else []


def environment(root: Path) -> dict[str, str]:
    return os.environ | {"FSEED_OUTPUTS": str(root), "FSEED_CACHE": "off", "OMP_NUM_THREADS": "1"}


def start_fresh(root: Path, *words: str) -> subprocess.Popen[str]:
    """Start the sweep as a user does, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fseed.run", *WORDS, *words],
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
