"""Synthetic sweeps with curves, gates, controls, a staged search and failures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fseed.records import METRICS_FILE, RESULT_FILE, write_json_atomic, write_text_atomic
from fseed.results.collection import Collection, collect_runs
from fseed.results.staged_files import DECISIONS_FILE, PLAN_FILE
from tests.results.builders import RunSpec, fail_run, finish_run, identity_of, random_spec

TOKENS_PER_STEP = 4096
NUM_STEPS = 40
EVALUATED = (0, 10, 20, 30, 40)
ALL_ARMS = {
    "scalar_l6": ({"lstart": 6}, 0.10),
    "scalar_l8": ({"lstart": 8}, 0.05),
    "scalar_l10": ({"lstart": 10}, 0.03),
    "scalar_l6_strong": ({"lstart": 6, "alpha.init": -1.0}, 0.08),
    "scalar_l10_strong": ({"lstart": 10, "alpha.init": -1.0}, -0.15),
    "scalar_l6_trainable": ({"lstart": 6, "alpha.lr": 5e-4}, 0.02),
}


def spec_of(
    arm: str,
    seed: int,
    *,
    effect: float = 0.0,
    task: str = "hotpot",
    stage: str = "plain",
    sweep: str = "report",
    changes: Mapping[str, Any] | None = None,
    num_examples: int = 60,
) -> RunSpec:
    """Return a run of an arm whose Future-Seed family label is shared by all arms."""
    told = {"task.name": task, "sweep.stage": stage, "fs_variant.label": "x", **(changes or {})}
    spec = random_spec(arm=arm, seed=seed, num_examples=num_examples, effect=effect)
    command = {"provenance": {"started_at": "2026-11-22T17:43:46+00:00"}}
    return spec.with_(sweep=sweep, changes=told, **command)


def gates_of(spec: RunSpec, *, step: int) -> list[float]:
    """Return the gates of all seeded layers after a step; they move only when trained."""
    start = int(spec.changes.get("lstart", 10))
    logit = float(spec.changes.get("alpha.init", -2.0))
    drift = 0.02 * step if spec.changes.get("alpha.lr") else 0.0
    if spec.arm == "no_fs":
        return []
    return [1 / (1 + np.exp(-(logit + drift * (layer - start + 1)))) for layer in range(start, 12)]


def write_history(path: Path, spec: RunSpec, *, num_steps: int = NUM_STEPS) -> None:
    """Write metrics.jsonl with a train row per step and evaluations on the way to the scores."""
    last = sum(spec.correct) / sum(spec.units)
    rows: list[dict[str, Any]] = []
    for step in range(num_steps + 1):
        if step > 0:
            rows.append(
                {
                    **{"kind": "train", "step": step, "tokens": TOKENS_PER_STEP + spec.seed},
                    **{"loss": 5.5 - step * 0.1, "gates_before": gates_of(spec, step=step - 1)},
                    "gates": gates_of(spec, step=step),
                }
            )
        if step in EVALUATED:
            share = step / NUM_STEPS
            scores = {"token_accuracy": last * share, "loss": 5.5 + (spec.loss - 5.5) * share}
            rows.append(
                {"kind": "evaluation", "step": step, "split": "validation", "metrics": scores}
            )
    write_text_atomic(path / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))


def finish(root: Path, spec: RunSpec) -> Path:
    """Write a finished run with its history and the gates of its result."""
    path = finish_run(root, spec)
    write_history(path, spec)
    result = json.loads((path / RESULT_FILE).read_text())
    gates = {"first": gates_of(spec, step=0), "last": gates_of(spec, step=NUM_STEPS)}
    command = ["fseed-run", f"task={spec.changes['task.name']}", f"fs={spec.arm}", "-m"]
    write_json_atomic(path / RESULT_FILE, {**result, "gates": gates})
    choices = json.loads((path / "choices.json").read_text())
    write_json_atomic(path / "choices.json", {**choices, "command": command})
    return path


def write_task(
    root: Path,
    *,
    arms: Mapping[str, tuple[Mapping[str, Any], float]],
    seeds: Sequence[int] = (0, 1, 2),
    **place: Any,
) -> None:
    """Write no_fs and ``arms`` {label: (config changes, effect)} for every seed."""
    for seed in seeds:
        for arm, (changes, effect) in {"no_fs": ({}, 0.0), **arms}.items():
            finish(root, spec_of(arm, seed, effect=effect, changes=changes, **place))


def write_report_sweep(root: Path) -> Collection:
    """Write two tasks with all kinds of rows and return what is collected from them."""
    write_task(root, arms=ALL_ARMS, task="hotpot", seeds=range(30, 35))
    control = {"lstart": 6, "control.kind": "shuffled_state"}
    for seed in range(30, 35):
        finish(root, spec_of("scalar_l6+shuffled_state", seed, changes=control, task="hotpot"))
    failed = spec_of("raw_l6", 30, changes={"lstart": 6, "fs_variant.gate": "raw"}, task="hotpot")
    path = fail_run(root, failed, message="CUDA out of memory at step 3")
    write_history(path, failed, num_steps=12)
    write_task(root, arms={"scalar_l8": ALL_ARMS["scalar_l8"]}, task="kvsort", seeds=[0])
    return collect_runs([root])


def write_staged_sweep(root: Path, *, sweep: str = "search") -> Collection:
    """Write a staged search of three arms and a control, from quick to confirm."""
    arms = {name: ALL_ARMS[name] for name in ("scalar_l6", "scalar_l8", "scalar_l10")}
    place: dict[str, Any] = {"task": "hotpot", "sweep": sweep}
    write_task(root, arms=arms, seeds=range(5), stage="quick", **place)
    kept = {name: arms[name] for name in ("scalar_l6", "scalar_l8")}
    write_task(root, arms=kept, seeds=range(10, 15), stage="medium", **place)
    last = {"scalar_l6": arms["scalar_l6"]}
    write_task(root, arms=last, seeds=range(20, 25), stage="confirm", **place)
    control = {"lstart": 6, "control.kind": "shuffled_state"}
    for seed in range(20, 25):
        label = "scalar_l6+shuffled_state"
        finish(root, spec_of(label, seed, changes=control, stage="confirm", **place))
    write_plan(root / sweep, arms=[*arms, "scalar_l6+shuffled_state"], sweep=sweep)
    write_decisions(
        root / sweep,
        [
            ("quick", 0, "scalar_l6", "continues", 3, 0.08, -0.01, 0.17),
            ("quick", 0, "scalar_l8", "continues", 3, 0.05, -0.02, 0.12),
            ("quick", 0, "scalar_l10", "dropped", 3, -0.02, -0.04, 0.002),
            ("quick", 1, "scalar_l6", "passed", 5, 0.09, 0.02, 0.16),
            ("quick", 1, "scalar_l8", "passed", 5, 0.05, 0.01, 0.09),
            ("medium", 0, "scalar_l6", "passed", 5, 0.10, 0.04, 0.16),
            ("medium", 0, "scalar_l8", "dropped", 5, 0.01, -0.02, 0.004),
        ],
    )
    return collect_runs([root])


def root_of(collection: Collection) -> Path:
    """Return the output root of collected runs."""
    return collection.runs[0].record.path.parents[4]


def write_plan(folder: Path, *, arms: Sequence[str], sweep: str = "search") -> None:
    entries = []
    for arm in arms:
        base, _, control = arm.partition("+")
        entries.append(
            {
                **{"label": arm, "arm_key": arm_key_of(arm), "control": control or "none"},
                "control_of": base if control else None,
            }
        )
    stages = [
        {"name": "quick", "seeds": list(range(5)), "rungs": [3, 5]},
        {"name": "medium", "seeds": list(range(10, 15)), "rungs": [5]},
        {"name": "confirm", "seeds": list(range(20, 25)), "rungs": []},
    ]
    plan = {
        **{"schema_version": 1, "sweep": sweep, "rule": "race", "tasks": ["hotpot"]},
        **{"rules": {"wanted_gain": 0.005, "significance": 0.05}, "arms": entries},
        **{"stages": stages, "command": ["fseed-run", "task=hotpot", "-m"]},
        **{"code_hash": "c" * 64, "created_at": "2026-11-22T12:00:00+00:00"},
    }
    write_json_atomic(folder / PLAN_FILE, plan)


def write_decisions(folder: Path, decisions: Sequence[tuple[Any, ...]]) -> None:
    lines = []
    for stage, rung, arm, state, num_seeds, difference, low, high in decisions:
        numbers = {"difference": difference, "low": low, "high": high, "confidence": 0.975}
        inputs = [
            {
                **{"seed": seed, "arm_run_id": "a" * 10, "baseline_run_id": "b" * 10},
                "difference": difference,
            }
            for seed in range(num_seeds)
        ]
        reasons = {
            "passed": ("interval_above_zero", "the interval lies above zero"),
            "dropped": ("below_wanted_gain", "the interval ends below the wanted gain"),
            "continues": ("open", "the interval holds the wanted gain"),
        }
        code, text = reasons[state]
        line = {
            **{"schema_version": 1, "task": "hotpot", "stage": stage, "rung": rung},
            **{"arm": arm, "arm_key": arm_key_of(arm), "state": state, "reason": code},
            **{"text": text, "numbers": {**numbers, "num_seeds": num_seeds, "p": 0.01}},
            **{"inputs": inputs, "rule": "race"},
        }
        lines.append(json.dumps(line))
    write_text_atomic(folder / DECISIONS_FILE, "\n".join(lines) + "\n")


def arm_key_of(arm: str) -> str:
    base, _, control = arm.partition("+")
    changes = dict(ALL_ARMS[base][0])
    changes |= {"control.kind": control} if control else {}
    return identity_of(spec_of(arm, 0, changes=changes))["arm_key"]
