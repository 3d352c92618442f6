"""plan.json: what a staged sweep is, written before its first run and never changed after."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fseed.atomic import write_json_atomic
from fseed.errors import UserError
from fseed.identity import canonical_config
from fseed.provenance import redact_all
from fseed.record_schema import RecordError, check_size
from fseed.results.staged_files import PLAN_FILE, STAGED_SCHEMA_VERSION
from fseed.sweep.decisions import Rules
from fseed.sweep.staged.book import BASELINE, RunBook, Slot, StagedArm
from fseed.sweep.staged.stages import Stage

# what may differ between two starts of the same plan
VOLATILE = ("command", "created_at")
MAX_NAMED = 4


def build_plan(
    book: RunBook,
    *,
    sweep: str,
    stages: Sequence[Stage],
    rules: Rules,
    arms: Sequence[StagedArm],
    has_controls: bool,
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the content of plan.json.

    ``settings`` holds per task what all its runs share, so that a changed budget is told by name.
    """
    return {
        "schema_version": STAGED_SCHEMA_VERSION,
        "sweep": sweep,
        "rule": rules.rule,
        "rules": {key: value for key, value in asdict(rules).items() if key != "rule"},
        "controls": has_controls,
        "tasks": book.tasks,
        "arms": [asdict(arm) for arm in arms],
        "stages": [
            {"name": stage.name, "seeds": list(stage.seeds), "rungs": list(stage.rungs)}
            for stage in stages
        ],
        "settings": {task: _settings(book, task, stages[0]) for task in book.tasks},
        "command": redact_all(list(command)),
        "code_hash": _baseline(book, book.tasks[0], stages[0]).code_hash,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def settle_plan(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Write the plan of a new sweep, or hold it against the one on disk; True when it is new.

    Raises:
        UserError: naming what differs, or that the file cannot be read.
    """
    path = folder / PLAN_FILE
    try:
        check_size(path)
        recorded = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_json_atomic(path, plan)
        return True
    except (OSError, ValueError, RecordError) as error:
        raise UserError(f"{path}: {error}\ngive another sweep.name") from error
    if not isinstance(recorded, dict):
        raise UserError(f"{path} holds no mapping\ngive another sweep.name")
    changes = describe_changes(recorded, plan)
    if changes:
        more = f" and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
        raise UserError(
            f"{path} is the plan of another sweep: {'; '.join(changes[:MAX_NAMED])}{more}\n"
            "give the command it was started with, or another sweep.name"
        )
    return False


def describe_changes(recorded: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Return "key old -> new" for everything that tells two plans apart, in the order of keys."""
    before, now = dict(_leaves(_named(recorded))), dict(_leaves(_named(plan)))
    keys = list(dict.fromkeys([*before, *now]))
    return [
        f"{key} {_short(before.get(key))} -> {_short(now.get(key))}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _named(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Turn lists of arms and stages into mappings by name, so that a change has a name."""
    kept = {key: value for key, value in plan.items() if key not in VOLATILE}
    arms, stages = plan.get("arms"), plan.get("stages")
    if isinstance(arms, list):
        own = [arm for arm in arms if isinstance(arm, Mapping)]
        kept["arms"] = [arm.get("label") for arm in own if arm.get("control_of") is None]
        kept["arm_keys"] = {
            f"{arm.get('label')} of {arm.get('control_of')}": arm.get("arm_key") for arm in own
        }
    if isinstance(stages, list):
        kept["stages"] = {
            str(stage.get("name")): {key: stage.get(key) for key in ("seeds", "rungs")}
            for stage in stages
            if isinstance(stage, Mapping)
        }
    return kept


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _settings(book: RunBook, task: str, stage: Stage) -> dict[str, Any]:
    run = _baseline(book, task, stage)
    shared = {key: value for key, value in canonical_config(run.config).items() if key != "seed"}
    hashes = {"data": run.data_hash, "weights": run.weights_hash, "words": run.vocabulary_hash}
    return {**shared, "hashes": hashes}


def _baseline(book: RunBook, task: str, stage: Stage) -> Any:
    return book.run(Slot(task, BASELINE, stage.name), seed=stage.seeds[0])


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, list) else str(value)
    is_hash = len(text) == 64 and all(char in "0123456789abcdef" for char in text)
    return text[:8] if is_hash else text
