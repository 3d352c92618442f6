"""A small checkout with a README, a manifest and archived records, written by the real writers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from fseed.claims.archive import archive_sweeps
from fseed.claims.checking import render_claims
from fseed.claims.manifest import MANIFEST_FILE, read_manifest
from fseed.claims.raw import write_raw_list
from fseed.config.schema import RunConfig
from fseed.identity import Hashes, Identity, identify
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    append_metrics,
    write_json_atomic,
    write_predictions,
    write_text_atomic,
)
from fseed.tasks.registry import get_task
from fseed.tasks.scoring import add_items, pool_metrics
from tests.claims.repository import begin, commit_manifest
from tests.configs import build_config

RAW_FILE = "paper/simulations/power.csv"
STEPS = 4
NUM_EXAMPLES = 12
ARMS = ("no_fs", "scalar_l10", "head_l8")
SEEDS = (0, 1, 2)
GAINS = {"no_fs": 0, "scalar_l10": 9, "head_l8": 0}  # right units of 60
FAILED = ("head_l8", 1)
STARTED = "2026-11-20T10:00:00+00:00"

MANIFEST: dict[str, Any] = {
    "schema_version": 1,
    "logs": {"paper/LOG.md": "dated notes"},
    "experiments": {
        "study": {
            "question": "Does the check see what was damaged?",
            "role": "main",
            "rule": "An arm is kept when its verdict is helps.",
            "registered": "2026-11-19",
            "tasks": ["hotpot"],
            "seeds": list(SEEDS),
            "arms": list(ARMS),
            "command": "make study",
        }
    },
}

README = """# A study

The arm `scalar_l10` gains <!-- fseed: study/scalar_l10.difference -->?<!-- /fseed --> pp
over <!-- fseed: study/scalar_l10.baseline_value -->?<!-- /fseed --> %, `study/x.y` in code is text.

| arm | seeds | diff pp | 95 % interval | n | verdict |
|---|---|---|---|---|---|
| scalar_l10 | <!-- fseed: study/scalar_l10.seeds -->?<!-- /fseed --> | \
<!-- fseed: study/scalar_l10.difference -->?<!-- /fseed --> | \
<!-- fseed: study/scalar_l10.interval -->?<!-- /fseed --> | \
<!-- fseed: study/scalar_l10.num_examples -->?<!-- /fseed --> | \
<!-- fseed: study/scalar_l10.verdict -->?<!-- /fseed --> |

The other arm, <!-- fseed: study/head_l8.difference -->?<!-- /fseed --> pp, lost a seed; its loss at
seed 0 was <!-- fseed: study/head_l8/s0.loss:2 -->?<!-- /fseed -->,
and <!-- fseed: study.num_failed -->?<!-- /fseed --> of
the <!-- fseed: study.num_runs -->?<!-- /fseed --> runs failed.

<!-- fseed: table study -->
<!-- /fseed -->

A threshold of 5 %, chosen beforehand <!-- fseed: not a result -->; [the log](paper/LOG.md).
"""


@dataclass(frozen=True)
class Planned:
    """A run to be written: its configuration, its identity and its folder below a sweep."""

    config: RunConfig
    identity: Identity
    hashes: Hashes
    arm: str

    @property
    def folder(self) -> str:
        config = self.config
        name = f"s{config.seed}-{self.identity.run_id}"
        return f"{config.task.name}/{config.sweep.stage}/{self.arm}/{name}"


@cache
def plan(
    arm: str,
    seed: int,
    *,
    code: str = "c" * 64,
    data: str = "d" * 64,
    steps: int = STEPS,
    source: str = "mini",
    stage: str = "plain",
) -> Planned:
    changes = {"seed": seed, "budget__steps": steps, "data__source": source}
    changes |= {"sweep__stage": stage, "output__root": "/home/somebody/results"}
    config = build_config(f"fs={arm}", **changes)
    hashes = Hashes(data=data, weights=None, vocabulary=None, code=code)
    return Planned(config, identify(config, hashes), hashes, arm)


def write_run(sweep: Path, planned: Planned, *, gain: int | None = None) -> Path:
    """Write a finished run below the folder of a sweep."""
    path = start_run(sweep, planned)
    rows = score_rows(planned, gain=GAINS[planned.arm] if gain is None else gain)
    write_rows(path / PREDICTIONS_FILE, rows)
    task = get_task(planned.config.task.name)
    evaluations = []
    steps = planned.config.budget.steps
    assert steps is not None
    for step in (0, steps):
        group = [row for row in rows if row["step"] == step]
        metrics = pool_metrics(task.metrics, group)
        evaluations.append({"step": step, "split": "validation", "metrics": metrics})
        values = {name: entry["value"] for name, entry in metrics.items()}
        line = {"kind": "evaluation", "step": step, "split": "validation", "metrics": values}
        append_metrics(path / METRICS_FILE, line)
        for number in range(1, steps + 1) if step == 0 else ():
            line = {"kind": "train", "step": number, "loss": 3.0 / number}
            append_metrics(path / METRICS_FILE, line | {"tokens": 100, "answer_tokens": 7})
    result = {
        **{"schema_version": SCHEMA_VERSION, "status": "finished", **asdict(planned.identity)},
        **{"steps": steps, "tokens": 100 * steps, "answer_tokens": 7 * steps},
        **{"wall_seconds": 1.5, "stop_reason": "budget"},
        **{"primary_metric": task.primary_metric, "evaluations": evaluations},
        "constant_baseline": {task.primary_metric: 0.1},
    }
    write_json_atomic(path / RESULT_FILE, result)
    return path


def start_run(sweep: Path, planned: Planned) -> Path:
    path = sweep / planned.folder
    content = OmegaConf.to_container(OmegaConf.structured(planned.config), enum_to_str=True)
    write_text_atomic(path / CONFIG_FILE, yaml.safe_dump(content, sort_keys=False))
    choices = {"schema_version": SCHEMA_VERSION, "arm": planned.arm}
    choices |= {"overrides": ["output.root=/home/somebody/results"]}
    write_json_atomic(path / CHOICES_FILE, choices)
    hashes = {f"{name}_hash": value for name, value in asdict(planned.hashes).items()}
    provenance = {"schema_version": SCHEMA_VERSION, **asdict(planned.identity), **hashes}
    provenance |= {"started_at": STARTED, "versions": {"torch": "2.6"}}
    write_json_atomic(path / PROVENANCE_FILE, provenance)
    return path


def fail_run(sweep: Path, planned: Planned) -> Path:
    path = start_run(sweep, planned)
    failure = {"schema_version": SCHEMA_VERSION, **asdict(planned.identity), "class": "oom"}
    failure |= {"message": "no memory for /home/somebody/results/x", "traceback": "..."}
    write_json_atomic(path / FAILURE_FILE, failure | {"last_step": 2, "peak_memory_gib": 1.0})
    return path


def score_rows(planned: Planned, *, gain: int) -> list[dict[str, Any]]:
    """Return rows of all evaluations, in the order in which training writes them.

    An arm has ``gain`` right units more than its baseline, and one more with every seed.
    """
    seed, steps = planned.config.seed, planned.config.budget.steps
    extra = 0 if planned.arm == "no_fs" else gain + seed
    rows = []
    for step in (0, steps):
        for index in range(NUM_EXAMPLES):
            right = 1 + (index + seed) % 4 + int(index < extra) if step else 0
            rows.append(_score_row(index, right=right, step=step or 0, loss=7.0 - right - seed / 7))
    task = get_task(planned.config.task.name)
    add_items(task.metrics[task.primary_metric], rows)
    return rows


def _score_row(index: int, *, right: int, step: int, loss: float) -> dict[str, Any]:
    done = step > 0
    return {
        **{"example_id": f"example-{index:03d}", "kind": ("bridge", "comparison")[index % 2]},
        **{"num_units": 5, "num_correct": right, "num_correct_full": right},
        **{"num_answer_tokens": 5, "num_tokens_correct": right, "end_of_text_correct": 1.0},
        **{"loss_sum": loss, "num_tokens": 6, "prediction": f"words {right}" if done else None},
        **{"exact_match": float(right == 5) if done else None, "f1": right / 5 if done else None},
        **{"split": "validation", "step": step},
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    write_predictions(path, {name: [row[name] for row in rows] for name in rows[0]})


def write_sweep(sweep: Path) -> Path:
    for arm in ARMS:
        for seed in SEEDS:
            planned = plan(arm, seed)
            (fail_run if (arm, seed) == FAILED else write_run)(sweep, planned)
    return sweep


def write_manifest(root: Path, content: Mapping[str, Any] = MANIFEST) -> None:
    write_text_atomic(root / MANIFEST_FILE, yaml.safe_dump(json.loads(json.dumps(content))))


def publish(folder: Path) -> Path:
    """Return a checkout below ``folder`` in which everything holds."""
    root = folder / "checkout"
    begin(root)
    write_manifest(root)
    commit_manifest(root)
    write_text_atomic(root / "README.md", README)
    write_text_atomic(root / "paper/LOG.md", "# Log\n\nA note of +9.99 pp, 12 % and 3 s.\n")
    write_text_atomic(root / RAW_FILE, "sweeps,power\n100,0.81\n")
    write_raw_list(root)
    sweep = write_sweep(folder / "results" / "first")
    archive_sweeps(root, read_manifest(root), name="study", sweeps=[sweep])
    render_claims(root)
    return root
