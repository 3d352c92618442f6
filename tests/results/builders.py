"""Synthetic run directories, written with the real writers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

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

FUTURE_SEED_GROUPS = ("fs", "fs_variant", "lstart", "alpha", "schedule", "control")


def digest(data: Any, *, length: int = 10) -> str:
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class RunSpec:
    """What a synthetic run is; ``correct`` are right units per example, ``units`` in all."""

    arm: str = "no_fs"
    seed: int = 0
    correct: Sequence[int] = (1, 0, 2, 1)
    units: Sequence[int] = (2, 2, 2, 2)
    loss: float = 1.0
    sweep: str = "default"
    changes: Mapping[str, Any] = field(default_factory=dict)  # dotted config keys
    provenance: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)  # override what is computed
    constant: float | None = 0.1
    predictions: Sequence[str | None] | None = None
    ids: Sequence[str] | None = None
    copied: float | None = None  # what copying from the prompt scores
    start: float = 0.0  # score before training
    gates: tuple[Sequence[float], Sequence[float]] = ((0.1,), (0.2,))  # first, last
    notes: Sequence[str] = ()

    def with_(self, **changes: Any) -> "RunSpec":
        return replace(self, **changes)

    def at(self, stage: str) -> "RunSpec":
        """Return the same run at a stage of a search."""
        return self.with_(changes={**self.changes, "sweep.stage": stage})

    def control(self, kind: str) -> "RunSpec":
        """Return a control of this arm; one that reads the prompt twice is no Future-Seed arm."""
        changes = {**self.changes, "control.kind": kind, "fs_variant.label": self.arm}
        label = f"{self.arm},control={kind}"
        if kind == "repeat_prompt":
            label, changes["fs.mode"] = "no_fs,control=repeat_prompt", "no_fs"
        return self.with_(arm=label, changes=changes)


def config_of(spec: RunSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "task": {"name": "hotpot", "order": "question_last", "max_length_tokens": 512},
        "data": {"source": "mini", "root": None, "num_train": 512, "num_validation": 4, "seed": 0},
        "model": {"name": "nano", "weights": None, "num_layers": 12, "width": 64, "head_size": 32},
        "fs": {"mode": "no_fs" if spec.arm == "no_fs" else "prompt_fs", "allow_noop": False},
        "fs_variant": {"gate": "scalar", "norm": "rms", "clip": 1.0, "label": spec.arm},
        "lstart": 10,
        "alpha": {"init": -2.0, "lr": 0.0},
        "schedule": {"kind": "none", "low": 1.0, "high": 1.0},
        "control": {"kind": "none"},
        "seed": spec.seed,
        "weights": None,
        "budget": {"steps": 40, "tokens": None, "batch_size": 8},
        "optim": {"lr": 3e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        "trainer": {"accelerator": "cpu", "precision": "float32", "num_threads": None},
        "logger": {"kind": "none"},
        "sweep": {"name": spec.sweep, "stage": "plain", "baseline": "auto", "dry_run": False},
        "output": {"root": None, "save_weights": False},
    }
    for name, value in spec.changes.items():
        *groups, key = name.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[key] = value
    return config


def identity_of(spec: RunSpec) -> dict[str, str]:
    config = config_of(spec)
    kept = {k: v for k, v in config.items() if k not in ("sweep", "output", "logger")}
    plain = {k: v for k, v in kept.items() if k not in FUTURE_SEED_GROUPS}
    seeded = {k: config[k] for k in FUTURE_SEED_GROUPS}
    hashes = {"code": spec.provenance.get("code_hash"), "data": spec.provenance.get("data_hash")}
    is_plain = config["fs"]["mode"] == "no_fs" and config["control"]["kind"] == "none"
    return {
        "run_id": digest([kept, hashes]),
        "pair_key": digest([plain, hashes]),
        "arm_key": digest({"mode": "no_fs"} if is_plain else seeded),
    }


def run_dir_of(root: Path, spec: RunSpec) -> Path:
    config = config_of(spec)
    folder = root / spec.sweep / config["task"]["name"] / config["sweep"]["stage"] / spec.arm
    return folder / f"s{spec.seed}-{identity_of(spec)['run_id']}"


def start_run(root: Path, spec: RunSpec) -> Path:
    """Write what exists before the first step."""
    path, config = run_dir_of(root, spec), config_of(spec)
    write_text_atomic(path / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
    choices = {"schema_version": SCHEMA_VERSION, "arm": spec.arm, "choices": {}, "overrides": []}
    write_json_atomic(path / CHOICES_FILE, choices)
    provenance = {
        "schema_version": SCHEMA_VERSION,
        **identity_of(spec),
        **{"code_hash": "c" * 64, "data_hash": "d" * 64, "weights_hash": None},
        **{"git_commit": None, "versions": {"torch": "2.6"}},
        "data": {
            "source": config["data"]["source"],
            "counts": {"train": 512, "validation": len(spec.units)},
        },
        "model": {
            **{"name": config["model"]["name"], "num_layers": 12},
            **{"parameters": 1_234_567, "initialization": "random"},
        },
    }
    write_json_atomic(path / PROVENANCE_FILE, {**provenance, **spec.provenance})
    for quarter in range(1, 5):
        step = round(config["budget"]["steps"] * quarter / 4)
        row = {"kind": "train", "step": step, "loss": 2.0 / step, "gates": [0.1] * 3}
        append_metrics(path / METRICS_FILE, row)
    return path


def finish_run(root: Path, spec: RunSpec) -> Path:
    """Write a finished run and return its folder."""
    path = start_run(root, spec)
    steps = config_of(spec)["budget"]["steps"]
    write_predictions(path / PREDICTIONS_FILE, _prediction_columns(spec, steps=steps))
    result = {
        **{"schema_version": SCHEMA_VERSION, "status": "finished", **identity_of(spec)},
        **{"steps": steps, "tokens": 4096 * steps, "answer_tokens": 64 * steps},
        **{"wall_seconds": 12.5, "stop_reason": "budget", "primary_metric": "token_accuracy"},
        "evaluations": [
            {"step": 0, "split": "validation", "metrics": _metrics(spec, trained=False)},
            {"step": steps, "split": "validation", "metrics": _metrics(spec, trained=True)},
        ],
        "constant_baseline": {"token_accuracy": spec.constant} if spec.constant is not None else {},
        "copy_baseline": {"token_accuracy": spec.copied} if spec.copied is not None else {},
        "gates": dict(zip(("first", "last"), map(list, spec.gates), strict=True)),
        **{"peak_memory_gib": 0.5, "tokens_per_second": 1000.0, "notes": list(spec.notes)},
    }
    write_json_atomic(path / RESULT_FILE, result)
    return path


def fail_run(root: Path, spec: RunSpec, *, kind: str = "oom", message: str = "no memory") -> Path:
    path = start_run(root, spec)
    failure = {
        **{"schema_version": SCHEMA_VERSION, **identity_of(spec), "class": kind},
        **{"message": message, "traceback": "...", "last_step": 3, "peak_memory_gib": 1.0},
    }
    write_json_atomic(path / FAILURE_FILE, failure)
    return path


def _metrics(spec: RunSpec, *, trained: bool) -> dict[str, Any]:
    accuracy = sum(spec.correct) / sum(spec.units) if trained else spec.start
    values = {"token_accuracy": accuracy, "loss": spec.loss if trained else 5.5}
    if trained:
        values = {**values, **spec.scores}
    return {name: {"value": value, "n": sum(spec.units)} for name, value in values.items()}


def _prediction_columns(spec: RunSpec, *, steps: int) -> dict[str, list[Any]]:
    size = len(spec.units)
    ids = list(spec.ids) if spec.ids is not None else [f"example-{i:05d}" for i in range(size)]
    texts = spec.predictions or [f"text {count} {i}" for i, count in enumerate(spec.correct)]
    return {
        "example_id": ids * 2,
        "kind": ["bridge"] * (2 * size),
        "split": ["validation"] * (2 * size),
        "step": [0] * size + [steps] * size,
        "num_units": list(spec.units) * 2,
        "num_correct": [0] * size + list(spec.correct),
        "num_correct_full": [0] * size + list(spec.correct),
        "num_answer_tokens": list(spec.units) * 2,
        "num_tokens_correct": [0] * size + list(spec.correct),
        "score": [0] * size + list(spec.correct),
        "weight": list(spec.units) * 2,
        "is_right": [False] * size
        + [right == units for right, units in zip(spec.correct, spec.units, strict=True)],
        "loss_sum": [5.5] * size + [spec.loss + 1e-6 * i for i in range(size)],
        "num_tokens": [count + 1 for count in spec.units] * 2,
        "prediction": [None] * size + list(texts),
        "exact_match": [None] * size + [0.0] * size,
    }


def random_spec(
    *, arm: str, seed: int, num_examples: int = 100, effect: float = 0.0, **changes: Any
) -> RunSpec:
    """Return a run with binomial scores around .4 + a seed effect + ``effect``."""
    generator = np.random.default_rng([seed, len(arm), int(digest(arm), 16) % 2**32])
    shared = np.random.default_rng(seed).normal(0, 0.02)
    units = np.full(num_examples, 3)
    rate = float(np.clip(0.4 + shared + effect, 0, 1))
    correct = generator.binomial(units, rate)
    loss = float(2.0 - rate + generator.normal(0, 0.01))
    return RunSpec(
        arm=arm,
        seed=seed,
        correct=correct.tolist(),
        units=units.tolist(),
        loss=loss,
        changes=changes,
    )


def write_sweep(
    root: Path, *, arms: Mapping[str, float], num_seeds: int, num_examples: int = 100
) -> list[Path]:
    """Write finished runs of ``arms`` {label: effect} and no_fs for every seed."""
    return [
        finish_run(root, random_spec(arm=arm, seed=seed, num_examples=num_examples, effect=effect))
        for seed in range(num_seeds)
        for arm, effect in {"no_fs": 0.0, **arms}.items()
    ]
