"""One run directory as a typed row: labels, settings, first and last scores, per-example counts."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fseed.identity import ARM_KEYS, VOLATILE_KEYS
from fseed.record_schema import check_size, one_line
from fseed.records import METRICS_FILE, RecordError, RunRecord, is_run_dir, read_metrics
from fseed.results.examples import Examples, load_examples
from fseed.results.scalars import as_float

HASHES = ("code_hash", "data_hash", "weights_hash", "vocabulary_hash")
# a sum over examples: a score recomputed from predictions differs by rounding only
_SCORE_TOLERANCE = 1e-6
# squares of larger numbers, and sums of those, are infinite
_LARGEST_SCORE = 1e100


@dataclass(frozen=True)
class Run:
    """A run as a table row; scores are fractions, ``None`` and absent keys mean not recorded.

    ``status``: finished | failed | unfinished | unreadable | invalid (finished, but its numbers
    cannot be used); ``reason`` is set unless finished.
    """

    record: RunRecord
    status: str
    reason: str | None
    settings: dict[str, Any]  # config leaves by dotted name
    split: str | None = None
    last: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)  # step 0, before training
    examples: Examples | None = None
    log_problem: str | None = None  # what is wrong with metrics.jsonl

    @property
    def run_id(self) -> str | None:
        """Return the identity of the run, where a record tells it."""
        return self.record.run_id

    @property
    def pair_key(self) -> str | None:
        """Return the key that an arm shares with its baseline."""
        told = self.record.provenance or self.record.failure or {}
        return told.get("pair_key")

    @property
    def arm(self) -> str:
        """Return the arm label, or the folder name where choices.json is missing."""
        return str(self.record.choices.get("arm") or self.record.path.parent.name)

    @property
    def seed(self) -> int | None:
        """Return the seed from the config, else from the folder name s<seed>-<run_id>."""
        if "seed" in self.settings:
            return self.settings["seed"]
        path = self.record.path
        return int(path.name[1:].rpartition("-")[0]) if is_run_dir(path) else None

    @property
    def is_baseline(self) -> bool:
        """Tell whether this is plain training: no Future-Seed and no control."""
        if not self.settings:
            return self.arm == "no_fs"
        mode, control = self.settings.get("fs.mode"), self.settings.get("control.kind", "none")
        return mode == "no_fs" and control == "none"

    @cached_property
    def labels(self) -> tuple[str, str, str, str]:
        """Return task, source, model and stage; "?" where neither config nor folder tells."""
        names = ("task.name", "data.source", "model.name", "sweep.stage")
        told = {name: self.settings[name] for name in names if name in self.settings}
        folders = self.record.path.parts[-4:-2]  # <task>/<stage>/<arm>/<run>
        if not told and is_run_dir(self.record.path) and len(folders) == 2:
            told = {"task.name": folders[0], "sweep.stage": folders[1]}
        task, source, model, stage = (str(told.get(name, "?")) for name in names)
        return task, source, model, stage

    @property
    def arm_key(self) -> str | None:
        """Return the identity of the Future-Seed part, where a record tells it."""
        return self.record.provenance.get("arm_key")

    @property
    def primary_metric(self) -> str | None:
        """Return the metric that the task is judged by."""
        return self.record.result["primary_metric"] if self.record.result is not None else None

    @cached_property
    def hashes(self) -> dict[str, Any]:
        """Return the hashes of code, data, weights and vocabulary."""
        return {name: self.record.provenance.get(name) for name in HASHES}

    @cached_property
    def plain_settings(self) -> dict[str, Any]:
        """Return what a baseline must share with its arm: what changes numbers, hashes too."""
        kept = {key: value for key, value in self.settings.items() if _is_shared(key)}
        return kept | self.hashes

    @cached_property
    def kin(self) -> str:
        """Return a digest of ``plain_settings`` without the seed: rows and baselines share it."""
        shared = {key: value for key, value in self.plain_settings.items() if key != "seed"}
        return hashlib.sha256(repr(sorted(shared.items())).encode(errors="replace")).hexdigest()

    @cached_property
    def sweep_folder(self) -> Path | None:
        """Return <root>/<sweep> of a run <root>/<sweep>/<task>/<stage>/<arm>/<run>."""
        path = self.record.path
        return _sweep_of(os.path.dirname(path)) if is_run_dir(path) else None


def load_run(record: RunRecord) -> Run:
    """Turn a record into a row; a finished run whose numbers cannot be used becomes invalid."""
    settings = dict(config_leaves(record.config))
    log_problem = describe_log(record)
    if not isinstance(settings.get("seed", 0), int):
        return Run(record, "unreadable", f"config.yaml: seed is {settings['seed']!r}", {})
    if record.status != "finished" or record.result is None:
        return Run(record, record.status, record.reason, settings, log_problem=log_problem)
    try:
        run = _load_finished(record, record.result, settings)
    except RecordError as error:
        run = Run(record, "invalid", str(error), settings)
    return replace(run, log_problem=log_problem)


def config_leaves(config: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every leaf of a nested mapping, in order."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from config_leaves(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@lru_cache(maxsize=8192)
def _sweep_of(arm_folder: str) -> Path | None:
    parents = Path(arm_folder).parents
    return parents[2] if len(parents) > 2 else None


@lru_cache(maxsize=8192)
def _is_shared(key: str) -> bool:
    """Tell whether a dotted key is none of those that an arm and its baseline may differ in."""
    groups = VOLATILE_KEYS + ARM_KEYS
    return not any(key == group or key.startswith(f"{group}.") for group in groups)


def tidy_row(run: Run) -> dict[str, Any]:
    """Return one flat row: labels, every config leaf, last and step-0 scores, hashes, costs."""
    result, provenance = run.record.result or {}, run.record.provenance
    spent = ("steps", "tokens", "answer_tokens", "wall_seconds", "stop_reason")
    rates = ("tokens_per_second", "peak_memory_gib")
    model = provenance.get("model")
    model = model if isinstance(model, Mapping) else {}
    return {
        **{"path": str(run.record.path), "status": run.status, "reason": run.reason},
        **{"arm": run.arm, "run_id": run.run_id, "pair_key": run.pair_key},
        **{"arm_key": run.arm_key, **run.hashes},
        **{"git_commit": provenance.get("git_commit"), "split": run.split},
        **{"parameters": model.get("parameters"), "initialization": model.get("initialization")},
        **run.settings,
        **{f"last.{name}": value for name, value in run.last.items()},
        **{f"n.{name}": value for name, value in run.counts.items()},
        **{f"step0.{name}": value for name, value in run.first.items()},
        **{f"spent.{name}": result.get(name) for name in (*spent, *rates)},
    }


def describe_log(record: RunRecord) -> str | None:
    """Say what is wrong with metrics.jsonl: torn lines, why it cannot be read, what it lacks.

    Scores never come from it, so that a run with a damaged log still counts.
    """
    path = record.path / METRICS_FILE
    try:
        check_size(path)
        rows, torn = read_metrics(path)
    except FileNotFoundError:
        return "is missing" if record.status == "finished" else None
    except (OSError, RecordError) as error:
        return f"cannot be read ({one_line(error)})"
    numbers = ", ".join(map(str, torn[:5])) + (" ..." if len(torn) > 5 else "")
    return f"torn lines left out ({numbers})" if torn else _missing_end(record, rows)


def _missing_end(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Say where the log of a finished run ends before the run does."""
    if record.status != "finished" or record.result is None:
        return None
    last, steps = max((row["step"] for row in rows), default=None), record.result.get("steps")
    return None if last == steps else f"ends at step {last}, the run at {steps}"


def _load_finished(record: RunRecord, result: Mapping[str, Any], settings: dict[str, Any]) -> Run:
    split, last, first = _pick_evaluations(result)
    scores, counts = _values(last, key="value"), _values(last, key="n")
    primary = result["primary_metric"]
    if primary not in scores:
        raise RecordError(f"the last evaluation has no {primary}")
    for name, value in scores.items():
        if not abs(value) < _LARGEST_SCORE:
            raise RecordError(f"{name} is {value} after the last step")
    examples = load_examples(record.predictions(), step=last["step"], split=split)
    _check_score(examples, scores[primary], metric=primary)
    return Run(
        record=record,
        status="finished",
        reason=None,
        settings=settings,
        split=split,
        last=scores,
        counts={name: int(count) for name, count in counts.items() if math.isfinite(count)},
        first=_values(first, key="value"),
        examples=examples,
    )


def _pick_evaluations(result: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the split that counts, its evaluation after the last step and that at step 0."""
    evaluations = result["evaluations"]
    keys = {"step", "split", "metrics"}
    if not isinstance(evaluations, list) or not all(
        isinstance(entry, dict) and keys <= entry.keys() for entry in evaluations
    ):
        raise RecordError("result.json: evaluations are not a list of step, split and metrics")
    last = [entry for entry in evaluations if entry["step"] == result["steps"]]
    if not last:
        raise RecordError(f"no evaluation after the last step ({result['steps']})")
    # a run that touched the test split is judged by it
    chosen = max(last, key=lambda entry: entry["split"] == "test")
    same_split = [entry for entry in evaluations if entry["split"] == chosen["split"]]
    first = next((entry for entry in same_split if entry["step"] == 0), {})
    return chosen["split"], chosen, first


def _values(evaluation: Mapping[str, Any], *, key: str) -> dict[str, float]:
    """Return {metric: value or n}; a metric that is null or lacks the key is left out."""
    metrics = evaluation.get("metrics", {})
    if not isinstance(metrics, Mapping):
        raise RecordError("result.json: metrics of an evaluation are not a mapping")
    found = {name: entry.get(key) for name, entry in metrics.items() if isinstance(entry, Mapping)}
    numbers = {name: as_float(value) for name, value in found.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _check_score(examples: Examples, value: float, *, metric: str) -> None:
    # sums too large for a float are infinite, and then no score agrees with them
    with np.errstate(over="ignore", invalid="ignore"):
        total = examples.weights.sum()
        again = examples.scores.sum() / total if total else math.nan
    if not abs(again - value) <= _SCORE_TOLERANCE:
        raise RecordError(f"{metric} is {value:.6f} in result.json, {again:.6f} from predictions")
