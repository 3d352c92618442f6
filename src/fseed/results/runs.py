"""One run directory as a typed row: labels, settings, first and last scores, per-example counts."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fseed.records import METRICS_FILE, RecordError, RunRecord, read_metrics

HASHES = ("code_hash", "data_hash", "weights_hash")
# units are counted, so a score recomputed from predictions differs by rounding only
_SCORE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Examples:
    """Scores per example of the last evaluation, sorted by example id."""

    ids: str  # digest of the sorted ids
    correct: NDArray[np.int64]  # [N] units
    units: NDArray[np.int64]  # [N]
    content: str  # digest of every column: equal only when all predictions are, bit for bit
    constant_answer: str | None  # the one text generated for all of several examples


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
        """Return the seed of the run."""
        return self.settings.get("seed")

    @property
    def is_baseline(self) -> bool:
        """Tell whether this is plain training: no Future-Seed and no control."""
        mode, control = self.settings.get("fs.mode"), self.settings.get("control.kind", "none")
        return mode == "no_fs" and control == "none"

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """Return task, source, model and stage, "?" where the config does not tell."""
        names = ("task.name", "data.source", "model.name", "sweep.stage")
        task, source, model, stage = (str(self.settings.get(name, "?")) for name in names)
        return task, source, model, stage

    @property
    def primary_metric(self) -> str | None:
        """Return the metric that the task is judged by."""
        return self.record.result["primary_metric"] if self.record.result is not None else None

    @property
    def hashes(self) -> dict[str, Any]:
        """Return the hashes of code, data and weights."""
        return {name: self.record.provenance.get(name) for name in HASHES}


def load_run(record: RunRecord) -> Run:
    """Turn a record into a row; a finished run whose numbers cannot be used becomes invalid."""
    settings = dict(config_leaves(record.config))
    if record.status != "finished" or record.result is None:
        return Run(record, record.status, record.reason, settings)
    try:
        return _load_finished(record, record.result, settings)
    except RecordError as error:
        return Run(record, "invalid", str(error), settings)


def config_leaves(config: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every leaf of a nested mapping, in order."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from config_leaves(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
        **{"arm_key": provenance.get("arm_key"), **run.hashes},
        **{"git_commit": provenance.get("git_commit"), "split": run.split},
        **{"parameters": model.get("parameters"), "initialization": model.get("initialization")},
        **run.settings,
        **{f"last.{name}": value for name, value in run.last.items()},
        **{f"n.{name}": value for name, value in run.counts.items()},
        **{f"step0.{name}": value for name, value in run.first.items()},
        **{f"spent.{name}": result.get(name) for name in (*spent, *rates)},
    }


def torn_metric_lines(record: RunRecord) -> list[int]:
    """Return the numbers of the lines of metrics.jsonl that do not parse; no file, no lines."""
    try:
        return read_metrics(record.path / METRICS_FILE)[1]
    except OSError:
        return []


def _load_finished(record: RunRecord, result: Mapping[str, Any], settings: dict[str, Any]) -> Run:
    split, last, first = _pick_evaluations(result)
    scores, counts = _values(last, key="value"), _values(last, key="n")
    primary = result["primary_metric"]
    if primary not in scores:
        raise RecordError(f"the last evaluation has no {primary}")
    for name, value in scores.items():
        if not math.isfinite(value):
            raise RecordError(f"{name} is {value} after the last step")
    examples = _load_examples(record, step=last["step"], split=split)
    _check_score(examples, scores[primary], metric=primary)
    return Run(
        record=record,
        status="finished",
        reason=None,
        settings=settings,
        split=split,
        last=scores,
        counts={name: int(count) for name, count in counts.items()},
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
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _load_examples(record: RunRecord, *, step: int, split: str) -> Examples:
    table = record.predictions()
    columns = {name: table[name].to_pylist() for name in ("example_id", "split")}
    wanted = np.array([told == split for told in columns["split"]], dtype=bool)
    rows = np.flatnonzero(wanted & (table["step"].to_numpy() == step))
    ids = [columns["example_id"][row] for row in rows]
    if not ids or len(set(ids)) != len(ids):
        problem = "an example occurs twice" if ids else "no rows"
        raise RecordError(f"predictions.parquet: {problem} for {split} at step {step}")
    order = rows[np.argsort(np.array(ids, dtype=object))]
    texts = _ordered_texts(table, order)
    return Examples(
        ids=_digest(sorted(ids)),
        correct=_whole_numbers(table, "num_correct")[order],
        units=_whole_numbers(table, "num_units")[order],
        content=_content(table, order),
        constant_answer=texts[0] if len(texts) > 1 and len(set(texts)) == 1 else None,
    )


def _ordered_texts(table: Any, order: NDArray[np.intp]) -> list[str]:
    """Return the generated texts, or nothing when not every example has one."""
    if "prediction" not in table.column_names:
        return []
    texts = table["prediction"].to_pylist()
    picked = [texts[row] for row in order]
    return [] if any(text is None for text in picked) else picked


def _whole_numbers(table: Any, name: str) -> NDArray[np.int64]:
    if table[name].null_count:
        raise RecordError(f"predictions.parquet: {name} is missing for some examples")
    return table[name].to_numpy().astype(np.int64)


def _content(table: Any, order: NDArray[np.intp]) -> str:
    """Digest the rows ``order`` of every column, names included."""
    parts: list[str] = []
    for name in sorted(table.column_names):
        values = table[name].to_pylist()
        # repr of a float is exact, so equal text means equal bits
        parts += [name, repr([values[row] for row in order])]
    return _digest(parts)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _check_score(examples: Examples, value: float, *, metric: str) -> None:
    total = examples.units.sum()
    again = examples.correct.sum() / total if total else math.nan
    if not abs(again - value) <= _SCORE_TOLERANCE:
        raise RecordError(f"{metric} is {value:.6f} in result.json, {again:.6f} from predictions")
