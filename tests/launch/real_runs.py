"""Small real trainings, and what must be equal however they were launched."""

import json
from pathlib import Path
from typing import Any

from fseed.launch.job import Job
from fseed.records import METRICS_FILE, PREDICTIONS_FILE, PROVENANCE_FILE, RESULT_FILE, read_metrics
from fseed.sweep.plan import plan_run
from tests.configs import composer
from tests.launch.jobs import wait_until

WORDS = (
    *("fs=scalar_l10", "budget.steps=30", "budget.batch_size=4", "trainer.num_threads=1"),
    *("data.num_train=64", "data.num_validation=16", "trainer.progress=false"),
)


def make_run(root: Path, *, seed: int = 0, words: tuple[str, ...] = WORDS) -> Job:
    """Return a job of some seconds; the same seed is the same run in another folder."""
    point = composer().compose([*words, f"seed={seed}", f"output.root={root}"])
    return Job(plan_run(point).run, "1/1")


def wait_for_step(job: Job, step: int) -> None:
    """Wait until a run has recorded ``step``."""
    path = job.run.run_dir / METRICS_FILE

    def reached() -> bool:
        rows = read_metrics(path)[0] if path.exists() else []
        return any(row["step"] >= step for row in rows)

    wait_until(reached, seconds=120.0)


def digits(folder: Path) -> dict[str, Any]:
    """Return every number of a run's folder that must not depend on how it was launched."""
    result = json.loads((folder / RESULT_FILE).read_text())
    rows = read_metrics(folder / METRICS_FILE)[0]
    times = ("seconds", "memory_gib", "tokens_per_second")
    return {
        "result": [result[key] for key in ("evaluations", "gates", "steps", "tokens")],
        "rows": [{k: v for k, v in row.items() if k not in times} for row in rows],
        "predictions": (folder / PREDICTIONS_FILE).read_bytes(),
    }


def num_attempts(job: Job) -> int:
    """Return how often a run was started."""
    return len(json.loads((job.run.run_dir / PROVENANCE_FILE).read_text())["attempts"])
