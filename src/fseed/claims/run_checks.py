"""Does a record say one thing: folder, configuration, identity, predictions, metrics, result?"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fseed.claims.findings import Finding, error, guarded
from fseed.claims.seal import TOLERANCE, Seal, relative
from fseed.errors import UserError
from fseed.identity import Identity, identify_content, without_keys
from fseed.record_schema import RecordError
from fseed.records import (
    CONFIG_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    read_metrics,
)
from fseed.results.runs import Run, config_leaves

ARCHIVED = ("finished", "failed")  # states of a run that may be published
# where a key of the canonical Future-Seed part stands in the configuration
_ARM_PLACES = {"mode": "fs.mode", "control": "control.kind"}


def check_run(run: Run, seal: Seal, folder: Path, *, prefix: Path | None = None) -> list[Finding]:
    """Check one run of the archive in ``folder``; places are told below ``prefix``."""
    name = relative(run.record.path, folder)
    place = (prefix if prefix is not None else folder) / name
    findings = list(_check_status(run, seal, name=name, place=place))
    if run.status == "failed":
        findings += guarded(_check_failure(run, place), code="status", place=place)
    if run.status == "unreadable" or not run.settings:
        return findings
    findings += _check_place(run, place)
    # a run that failed before it had read its data has no provenance yet
    if run.record.provenance:
        checks = _check_identity(run, seal, place)
        findings += guarded(checks, code="identity", place=place / PROVENANCE_FILE)
    if run.record.result is not None:
        findings += guarded(_check_metrics(run, place), code="metrics", place=place / METRICS_FILE)
        findings += guarded(_check_spent(run, place), code="budget", place=place / RESULT_FILE)
        checks = _check_predictions(run, place)
        findings += guarded(checks, code="score", place=place / PREDICTIONS_FILE)
    return findings


def _check_status(run: Run, seal: Seal, *, name: str, place: Path) -> Iterator[Finding]:
    archived = seal.runs.get(name)
    if run.status not in ARCHIVED:
        yield error("status", place, f"is {run.status}: {run.reason}")
    elif run.status != archived:
        yield error("status", place, f"is {run.status}, was {archived} when it was archived")


def _check_failure(run: Run, place: Path) -> Iterator[Finding]:
    """Report a failure of a run that was scored at its end: a number that someone did not want."""
    path = run.record.path / METRICS_FILE
    rows = read_metrics(path)[0] if path.is_file() else []
    scored = {
        (row.get("step"), row.get("split")) for row in rows if row.get("kind") == "evaluation"
    }
    last = _last_step(run, rows)
    wanted = {"validation", "test"} if run.settings.get("budget.test") else {"validation"}
    if last is not None and all((last, split) in scored for split in wanted):
        text = (
            f"is told to have failed, and {METRICS_FILE} holds the evaluation after its last step"
        )
        yield error("status", place, f"{text} ({last})")


def _last_step(run: Run, rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the step at which the budget ends, None where training did not come so far."""
    steps, tokens = run.settings.get("budget.steps"), run.settings.get("budget.tokens")
    if steps is not None:
        return steps
    trained = [row for row in rows if row.get("kind") == "train"]
    spent = sum(row["tokens"] for row in trained)
    return trained[-1]["step"] if tokens is not None and trained and spent >= tokens else None


def _check_place(run: Run, place: Path) -> Iterator[Finding]:
    """Compare the folder <task>/<stage>/<arm>/s<seed>-<run_id> with the records in it."""
    task, _, _, stage = run.labels
    wanted = (task, stage, run.arm, f"s{run.seed}-{run.run_id}")
    if place.parts[-4:] != wanted:
        yield error("place", place, f"holds the records of {'/'.join(wanted)}")


def _check_identity(run: Run, seal: Seal, place: Path) -> Iterator[Finding]:
    """Hash the configuration again; whoever edits it would have to forge every id."""
    told = run.record.provenance
    arm = seal.arms.get(str(told.get("arm_key")))
    if arm is None:
        yield error("identity", place / PROVENANCE_FILE, "arm_key is not one that was archived")
        return
    yield from _check_arm(run, arm, place)
    try:
        shared = without_keys(run.record.config, seal.hidden_keys)
    except (KeyError, TypeError) as problem:
        yield error("identity", place / CONFIG_FILE, f"lacks {problem}")
        return
    # the names of the fields of fseed.identity.Hashes
    hashes = {key.removesuffix("_hash"): value for key, value in run.hashes.items()}
    identity = identify_content(shared, arm=arm, hashes=hashes)
    for key in Identity.__dataclass_fields__:
        if told.get(key) != getattr(identity, key):
            text = f"configuration and hashes give {getattr(identity, key)}, not {told.get(key)}"
            yield error("identity", place / CONFIG_FILE, f"{key}: {text}")


def _check_arm(run: Run, arm: Mapping[str, Any], place: Path) -> Iterator[Finding]:
    for key, value in config_leaves(arm):
        name = _ARM_PLACES.get(key, key)
        if run.settings.get(name) != value:
            text = f"{name} is {run.settings.get(name)!r}, the arm has {value!r}"
            yield error("identity", place / CONFIG_FILE, text)


def _check_metrics(run: Run, place: Path) -> Iterator[Finding]:
    """Compare every evaluation of result.json with its line in metrics.jsonl."""
    path, log = run.record.path / METRICS_FILE, place / METRICS_FILE
    try:
        rows, torn = read_metrics(path)
    except OSError as problem:
        yield error("metrics", log, f"cannot be read: {problem.strerror}")
        return
    if torn:
        yield error("metrics", log, f"torn lines {', '.join(map(str, torn))}")
    result = run.record.result or {}
    lines = {(r["step"], r.get("split")): r for r in rows if r.get("kind") == "evaluation"}
    evaluations = result.get("evaluations", [])
    if len(lines) != len(evaluations):
        text = f"{len(lines)} evaluations, {len(evaluations)} in {RESULT_FILE}"
        yield error("metrics", log, text)
    for entry in evaluations:
        line = lines.get((entry.get("step"), entry.get("split")), {})
        told = {name: metric["value"] for name, metric in entry.get("metrics", {}).items()}
        for name in _differing(line.get("metrics", {}), told):
            text = f"{name} at step {entry.get('step')} is {line.get('metrics', {}).get(name)!r}"
            yield error("metrics", log, f"{text}, {told.get(name)!r} in {RESULT_FILE}")


def _check_spent(run: Run, place: Path) -> Iterator[Finding]:
    """Compare what was spent with the budget and with the lines of metrics.jsonl."""
    result = run.record.result or {}
    planned = run.settings.get("budget.steps")
    if planned is not None and result["steps"] != planned:
        text = f"{result['steps']} steps, the configuration says {planned}"
        yield error("budget", place / RESULT_FILE, text)
    try:
        rows = [
            r for r in read_metrics(run.record.path / METRICS_FILE)[0] if r.get("kind") == "train"
        ]
    except OSError:
        return
    if not rows and result["steps"]:
        yield error("budget", place / METRICS_FILE, "tells no optimiser step")
    if rows and rows[-1]["step"] != result["steps"]:
        text = f"ends at step {rows[-1]['step']}, {RESULT_FILE} at {result['steps']}"
        yield error("budget", place / METRICS_FILE, text)
    for key in ("tokens", "answer_tokens"):
        total = sum(row.get(key, 0) for row in rows)
        if rows and total != result.get(key):
            text = f"{result.get(key)} {key}, {total} in {METRICS_FILE}"
            yield error("budget", place / RESULT_FILE, text)


def _check_predictions(run: Run, place: Path) -> Iterator[Finding]:
    """Score the predictions again, with the functions that scored them, at every evaluation."""
    path = place / PREDICTIONS_FILE
    try:
        columns = run.record.predictions().to_pydict()
    except RecordError as problem:
        yield error("score", path, str(problem))
        return
    size = len(columns["example_id"])
    rows = [{name: values[index] for name, values in columns.items()} for index in range(size)]
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["split"]), []).append(row)
    evaluations = (run.record.result or {})["evaluations"]
    wanted = {(entry["step"], entry["split"]): entry["metrics"] for entry in evaluations}
    if wanted.keys() != groups.keys():
        told = f"steps and splits {sorted(groups)}, {sorted(wanted)} in {RESULT_FILE}"
        yield error("score", path, told)
        return
    if rows != [row for group in groups.values() for row in group]:
        yield error("order", path, "evaluations are mixed with each other")
    for key, group in groups.items():
        yield from _check_group(run, group, wanted[key], path=path, at=f"{key[1]} at step {key[0]}")


def _check_group(
    run: Run, rows: Sequence[dict[str, Any]], told: Mapping[str, Any], *, path: Path, at: str
) -> Iterator[Finding]:
    from fseed.tasks.registry import get_task
    from fseed.tasks.scoring import add_items, pool_metrics

    ids = [row["example_id"] for row in rows]
    if len(set(ids)) != len(ids):
        yield error("order", path, f"an example occurs twice, {at}")
    elif ids != sorted(ids):
        yield error("order", path, f"examples are not in order, {at}")
    try:
        task = get_task(run.labels[0])
    except UserError as problem:
        yield error("score", path, f"cannot be scored again: {str(problem).splitlines()[0]}")
        return
    again = [dict(row) for row in rows]
    add_items(task.metrics[task.primary_metric], again)
    for row, new in zip(rows, again, strict=True):
        names = [key for key in ("score", "weight", "is_right") if row.get(key) != new[key]]
        if names:
            text = f"{', '.join(names)} of {row['example_id']} do not follow from its counts"
            yield error("score", path, f"{text}, {at}")
            break
    yield from _compare_pooled(pool_metrics(task.metrics, again), told, path=path, at=at)


def _compare_pooled(
    again: Mapping[str, Mapping[str, float]], told: Mapping[str, Any], *, path: Path, at: str
) -> Iterator[Finding]:
    for part in ("value", "n"):
        new = {name: entry[part] for name, entry in again.items()}
        old = {name: entry.get(part) for name, entry in told.items()}
        for name in _differing(new, old):
            what = name if part == "value" else f"n of {name}"
            text = f"{what}, {at}, is {new.get(name)!r} from predictions"
            yield error("score", path, f"{text}, {old.get(name)!r} in {RESULT_FILE}")


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names whose values differ beyond rounding, are missing or are not finite."""
    names = list(dict.fromkeys([*first, *second]))
    return [name for name in names if not _close(first.get(name), second.get(name))]


def _close(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    if not (math.isfinite(first) and math.isfinite(second)):
        return False
    return abs(first - second) <= TOLERANCE * max(1.0, abs(first), abs(second))
