import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fseed.atomic import write_json_atomic, write_text_atomic
from fseed.claims.archive import archive_sweeps
from fseed.claims.checking import check_claims, render_claims
from fseed.claims.findings import failed
from fseed.claims.manifest import read_manifest
from fseed.results.collection import collect_runs
from fseed.results.runs import Run
from fseed.sweep.decisions import Rules, decide
from tests.claims.harm import renew
from tests.claims.publishing import GAINS, MANIFEST, plan, write_manifest, write_run

STAGES = {"quick": (0, 1, 2), "confirm": (3, 4, 5)}
RULES = {"wanted_gain": 0.1, "significance": 0.05}
FOLDER = "paper/records/study/search"
EXPERIMENT = MANIFEST["experiments"]["study"] | {"seeds": []}


def write_search(sweep: Path) -> Path:
    """Write a staged sweep: scalar_l10 passes, head_l8 is dropped after the quick stage."""
    for stage, seeds in STAGES.items():
        for arm in ("no_fs", "scalar_l10", *(["head_l8"] if stage == "quick" else [])):
            for seed in seeds:
                write_run(sweep, plan(arm, seed, stage=stage), gain=GAINS[arm])
    runs = {(run.arm, run.labels[3], run.seed): run for run in collect_runs([sweep]).runs}
    lines = [line for stage in STAGES for line in decide_stage(runs, stage)]
    write_text_atomic(sweep / "decisions.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    labels = ("scalar_l10", "head_l8")
    arms = [{"label": label, "arm_key": runs[label, "quick", 0].arm_key} for label in labels]
    content = {
        **{"schema_version": 1, "sweep": "search", "rule": "race", "rules": RULES},
        **{"tasks": ["hotpot"], "command": ["run"], "code_hash": "c" * 64},
        "arms": [arm | {"control": "none", "control_of": None} for arm in arms],
        "stages": [
            {"name": stage, "seeds": list(seeds), "rungs": [3]} for stage, seeds in STAGES.items()
        ],
        "created_at": "2026-11-20T09:00:00+00:00",
    }
    write_json_atomic(sweep / "plan.json", content)
    return sweep


def decide_stage(runs: dict[Any, Run], stage: str) -> list[dict[str, Any]]:
    inputs: dict[str, list[dict[str, Any]]] = {}
    for (arm, at, seed), run in sorted(runs.items()):
        if arm != "no_fs" and at == stage:
            base = runs["no_fs", stage, seed]
            difference = run.last["token_accuracy"] - base.last["token_accuracy"]
            ids = {"arm_run_id": run.run_id, "baseline_run_id": base.run_id}
            inputs.setdefault(arm, []).append({"seed": seed, **ids, "difference": difference})
    values = {arm: [one["difference"] for one in given] for arm, given in inputs.items()}
    taken = decide(values, stage=stage, rung=0, num_rungs=1, rules=Rules("race", **RULES))
    return [
        {
            **{"schema_version": 1, "task": "hotpot", "stage": stage, "rung": 0, "rule": "race"},
            **{"arm": one.arm, "arm_key": runs[one.arm, stage, STAGES[stage][0]].arm_key},
            **{"state": one.state, "reason": one.reason, "text": one.text},
            "numbers": {
                **{"difference": one.difference, "low": one.low, "high": one.high, "p": one.p},
                **{"confidence": one.confidence, "num_seeds": one.num_seeds},
            },
            "inputs": inputs[one.arm],
        }
        for one in taken
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    root = folder / "checkout"
    write_manifest(root, MANIFEST | {"logs": {}, "experiments": {"study": EXPERIMENT}})
    write_text_atomic(root / "README.md", "# A search\n")
    sweep = write_search(folder / "results" / "search")
    archive_sweeps(root, read_manifest(root), name="study", sweeps=[sweep])
    render_claims(root)
    return root


def test_a_staged_sweep_holds_and_its_pruned_arm_is_a_failure(searched: Path) -> None:
    assert not failed(check_claims(searched).findings, strict=True)
    page = (searched / "paper/failures.md").read_text()
    (line,) = [line for line in page.splitlines() if "| head_l8 |" in line]
    assert "| quick |" in line
    assert "pruned" in line


def on_decision(index: int, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = root / FOLDER / "decisions.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        change(lines[index])
        write_text_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))

    return harm


def on_plan(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = root / FOLDER / "plan.json"
        content = json.loads(path.read_text())
        change(content)
        write_json_atomic(path, content)

    return harm


def drop_decision(root: Path) -> None:
    path = root / FOLDER / "decisions.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    write_text_atomic(path, "".join(line for line in lines if '"head_l8"' not in line))


def drop_confirmation(root: Path) -> None:
    shutil.rmtree(root / FOLDER / "hotpot" / "confirm")


def drop_seed(root: Path) -> None:
    shutil.rmtree(next((root / FOLDER / "hotpot/confirm/scalar_l10").glob("s5-*")))


def turn(state: str, reason: str) -> Callable[[Any], object]:
    return lambda line: line.update(state=state, reason=reason)


# head_l8 comes first: arms in the order of their names
DAMAGE = {
    "decision turned": (
        on_decision(0, turn("passed", "above_zero")),
        "decisions.jsonl:1: head_l8 is dropped",
    ),
    "difference edited": (
        on_decision(1, lambda line: line["inputs"][0].update(difference=0.5)),
        "decisions.jsonl:2: difference of seed 0 is",
    ),
    "pair swapped": (
        on_decision(1, lambda line: line["inputs"].reverse() or line["inputs"][0].update(seed=0)),
        "decisions.jsonl:2: ",
    ),
    "run not among the records": (
        on_decision(1, lambda line: line["inputs"][0].update(arm_run_id="0" * 10)),
        "rests on run 0000000000",
    ),
    "wanted gain edited": (
        on_plan(lambda plan: plan["rules"].update(wanted_gain=0.9)),
        "scalar_l10 is dropped (below_wanted_gain), not passed",
    ),
    "rule edited": (on_plan(lambda plan: plan["rules"].update(wanted_gain=-1)), "rules: wanted"),
    "arm added to the plan": (
        on_plan(lambda plan: plan["arms"].append(plan["arms"][0] | {"label": "raw_l8"})),
        "arm raw_l8 is not registered",
    ),
    "arm taken off the plan": (
        on_plan(lambda plan: plan["arms"].pop(1)),
        "arm head_l8 is registered and not planned",
    ),
    "decision dropped": (drop_decision, "head_l8 of task hotpot was planned and never decided on"),
    "confirmation dropped": (drop_confirmation, "scalar_l10 passed and has no run at confirm"),
    "seed of the confirmation dropped": (
        drop_seed,
        "scalar_l10 of task hotpot has no record of seed 5 at confirm",
    ),
    "seed that was not planned": (
        lambda root: write_run(root / FOLDER, plan("scalar_l10", 9, stage="confirm"), gain=12),
        "seed 9 is none of stage confirm in the plan",
    ),
    "plan deleted": (
        lambda root: (root / FOLDER / "plan.json").unlink(),
        "decisions without a plan",
    ),
    "plan torn": (
        lambda root: write_text_atomic(root / FOLDER / "plan.json", "{"),
        f"{FOLDER}/plan.json",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_plan_and_decisions_is_caught_under_a_renewed_seal(
    searched: Path, tmp_path: Path, kind: str
) -> None:
    root = shutil.copytree(searched, tmp_path / "checkout")
    harm, message = DAMAGE[kind]
    harm(root)
    renew(root)
    told = [str(finding) for finding in failed(check_claims(root).findings, strict=False)]
    assert any(message in line for line in told), told
