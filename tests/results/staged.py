"""Plans and decisions of synthetic staged sweeps, in the form that the sweep writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fseed.records import write_json_atomic
from fseed.results.staged_files import DECISIONS_FILE, PLAN_FILE, STAGED_SCHEMA_VERSION
from tests.results.builders import RunSpec, finish_run, identity_of

SEEDS = {"quick": [0, 1, 2], "medium": [3, 4, 5], "confirm": [6, 7, 8, 9, 10]}


ARMS = ("scalar_l10", "head_l10", "raw_l10")
NUM_EXAMPLES = 20
UNITS = 40
# right units more than the baseline's, of 800: a good arm, one dropped at quick, one at medium
GAINS = {"scalar_l10": 24, "head_l10": -16, "raw_l10": 4, "random_state": 2, "aa": 0}


def plan_content(arms: Sequence[dict[str, Any]], *, sweep: str = "default") -> dict[str, Any]:
    return {
        "schema_version": STAGED_SCHEMA_VERSION,
        "sweep": sweep,
        "rule": "race",
        "rules": {"wanted_gain": 0.01, "significance": 0.05},
        "tasks": ["hotpot"],
        "arms": list(arms),
        "stages": [
            {"name": name, "seeds": seeds, "rungs": [len(seeds)]} for name, seeds in SEEDS.items()
        ],
        "command": ["python", "-m", "fseed.run"],
        "code_hash": "c" * 64,
        "created_at": "2026-01-01T00:00:00+00:00",
    }


def plan_arm(
    label: str, arm_key: str, *, control: str = "none", control_of: str | None = None
) -> dict[str, Any]:
    return {"label": label, "arm_key": arm_key, "control": control, "control_of": control_of}


def decision_content(
    arm: str,
    arm_key: str,
    *,
    stage: str = "quick",
    state: str = "dropped",
    reason: str = "below_wanted_gain",
    differences: Sequence[float] = (-0.01, -0.02, -0.03),
    task: str = "hotpot",
) -> dict[str, Any]:
    seeds = SEEDS[stage]
    return {
        "schema_version": STAGED_SCHEMA_VERSION,
        **{"task": task, "stage": stage, "rung": 0, "arm": arm, "arm_key": arm_key},
        **{"state": state, "reason": reason, "text": f"{arm} is {state} after 3 seeds"},
        "numbers": {
            **{"difference": sum(differences) / len(differences), "low": -0.045, "high": 0.005},
            **{"confidence": 0.95, "num_seeds": len(differences), "p": 0.07},
        },
        "inputs": [
            {
                **{"seed": seed, "arm_run_id": "a" * 10, "baseline_run_id": "b" * 10},
                "difference": difference,
            }
            for seed, difference in zip(seeds, differences, strict=False)
        ],
        "rule": "race",
    }


def write_plan(folder: Path, arms: Sequence[dict[str, Any]], *, sweep: str = "default") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / PLAN_FILE, plan_content(arms, sweep=sweep))
    return folder / PLAN_FILE


def write_decisions(folder: Path, decisions: Sequence[dict[str, Any]]) -> Path:
    path = folder / DECISIONS_FILE
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(decision) + "\n" for decision in decisions))
    return path


def staged_spec(arm: str, *, seed: int, stage: str, task: str, gain: int = 0) -> RunSpec:
    """Return a run of a stage that has ``gain`` more right units than its baseline, or about."""
    gain += (seed * 7 + len(task)) % 5 - 2 if arm != "no_fs" and gain else 0
    correct = [20] * (NUM_EXAMPLES - 1) + [20 + gain]
    changes = {"sweep.stage": stage, "task.name": task}
    loss = 1.0 + seed + len(task) / 99 - gain / 9999
    units = (UNITS,) * NUM_EXAMPLES
    return RunSpec(arm=arm, seed=seed, correct=correct, units=units, loss=loss, changes=changes)


def write_staged_sweep(root: Path, *, tasks: Sequence[str] = ("hotpot", "squad")) -> Path:
    """Write a finished staged sweep with plan and decisions; return its folder.

    scalar_l10 is confirmed with two controls, head_l10 dropped at quick, raw_l10 at medium.
    """
    folder, decisions = root / "default", []
    ends = {"head_l10": "quick", "raw_l10": "medium"}
    for task in tasks:
        for stage, seeds in SEEDS.items():
            names = list(SEEDS)
            living = [
                arm for arm in ARMS if names.index(ends.get(arm, "confirm")) >= names.index(stage)
            ]
            for seed in seeds:
                finish_run(root, staged_spec("no_fs", seed=seed, stage=stage, task=task))
                for arm in living:
                    place = {"seed": seed, "stage": stage, "task": task}
                    finish_run(root, staged_spec(arm, gain=GAINS[arm], **place))
                    for kind in ("aa", "random_state") if stage == "confirm" else ():
                        # an excess over the control that differs between seeds
                        own = seed % 2 if kind != "aa" else 0
                        spec = staged_spec(arm, gain=GAINS[kind] + own, **place)
                        loss = spec.loss + (0.01 if kind != "aa" else 0.0)
                        finish_run(root, spec.with_(loss=loss).control(kind))
            for arm in living if stage != "confirm" else ():
                key = identity_of(staged_spec(arm, seed=0, stage=stage, task=task))["arm_key"]
                is_end = ends.get(arm) == stage
                state, reason = ("passed", "above_zero")
                if is_end:
                    state, reason = ("dropped", "below_wanted_gain")
                told = {"stage": stage, "state": state, "reason": reason, "task": task}
                decisions.append(decision_content(arm, key, **told))
    registered = [_planned(arm, tasks[0]) for arm in ARMS]
    controls = [_planned("scalar_l10", tasks[0], kind) for kind in ("aa", "random_state")]
    content = plan_content([*registered, *controls]) | {"tasks": list(tasks)}
    write_json_atomic(folder / PLAN_FILE, content)
    write_decisions(folder, decisions)
    return folder


def _planned(arm: str, task: str, kind: str = "none") -> dict[str, Any]:
    spec = staged_spec(arm, seed=0, stage="confirm", task=task)
    if kind == "none":
        return plan_arm(arm, identity_of(spec)["arm_key"])
    spec = spec.control(kind)
    return plan_arm(spec.arm, identity_of(spec)["arm_key"], control=kind, control_of=arm)
