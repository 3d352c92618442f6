"""Is an experiment what was registered: files, arms, seeds, pairs, outcomes?"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fseed.claims.findings import Finding, error, guarded
from fseed.claims.manifest import MANIFEST_FILE, Experiment, digest
from fseed.claims.run_checks import check_run
from fseed.claims.seal import (
    SEAL_FILE,
    Seal,
    changed_outcome,
    hash_files,
    outcome_of,
    read_seal,
    row_name,
)
from fseed.claims.staged_checks import check_staged
from fseed.record_schema import MAX_BYTES, RecordError
from fseed.records import PREDICTIONS_FILE, PROVENANCE_FILE, RESULT_FILE, is_run_dir
from fseed.results.collection import Collection, collect_runs
from fseed.results.pairs import Arm, build_arms
from fseed.results.runs import HASHES, Run
from fseed.results.staged import sweep_folder

# both follow from the data alone
_PAIR_ANSWERS = ("constant_baseline", "copy_baseline")
_PAIR_SPENT = ("steps", "tokens", "answer_tokens")
_READ_TWICE = ("same_layer", "repeat_prompt")  # controls whose records count both readings


@dataclass(frozen=True)
class Published:
    """An experiment with its archived records, collected again; ``seal`` None: unreadable."""

    experiment: Experiment
    collection: Collection
    seal: Seal | None


def load_published(root: Path, experiment: Experiment) -> tuple[Published | None, list[Finding]]:
    """Collect the archive of an experiment; None and the reason where there is nothing to read."""
    folder = root / experiment.folder
    if not folder.is_dir():
        if experiment.planned:
            text = f"{experiment.name} is registered and has not run"
            return None, [Finding("note", "planned", MANIFEST_FILE, text)]
        text = f"{experiment.name} has no records at {experiment.folder}"
        return None, [error("missing_run", MANIFEST_FILE, text)]
    odd = [path for path in (folder, *folder.rglob("*")) if not _is_plain(path)]
    if odd:
        text = "is a link, a pipe, unreadable, or larger than any record; nothing here was read"
        return None, [error("unlisted_file", path.relative_to(root), text) for path in odd]
    if experiment.planned:
        text = f"{experiment.name} has records; take planned: true off its entry"
        return None, [error("registration", MANIFEST_FILE, text)]
    collection = collect_runs([folder], margin=experiment.margin)
    try:
        return Published(experiment, collection, read_seal(folder)), []
    except RecordError as problem:
        place = experiment.folder / SEAL_FILE
        return Published(experiment, collection, None), [
            error("unreadable_archive", place, str(problem))
        ]


def _is_plain(path: Path) -> bool:
    if path.is_symlink() or not os.access(path, os.R_OK):
        return False
    return path.is_dir() or (path.is_file() and path.stat().st_size <= MAX_BYTES)


def check_experiment(root: Path, published: Published) -> list[Finding]:
    """Check everything about an archive that does not depend on a document."""
    experiment, collection = published.experiment, published.collection
    seal = published.seal
    if seal is None:
        return []
    folder = root / experiment.folder
    findings = [
        *_check_files(seal, folder, experiment),
        *_check_registration(seal, experiment),
        *_check_seeds(collection, experiment, root),
        *_check_dates(collection, experiment, root),
        *_check_complete(collection, experiment, root),
    ]
    for run in collection.runs:
        findings += check_run(run, seal, folder, prefix=experiment.folder)
    for arm in build_arms(collection.runs):
        findings += _check_pairs(arm, root)
    findings += check_staged(collection, experiment, root)
    outcomes = _check_outcomes(seal, collection, experiment)
    findings += guarded(outcomes, code="outcome", place=experiment.folder / SEAL_FILE)
    findings += _tell_alarms(collection, experiment, root)
    return findings


def _check_files(seal: Seal, folder: Path, experiment: Experiment) -> Iterator[Finding]:
    now = hash_files(folder)
    for name, value in seal.files.items():
        if name not in now:
            yield error("missing_file", experiment.folder / name, "was archived and is gone")
        elif now[name] != value:
            text = "is not the file that was archived"
            yield error("changed_file", experiment.folder / name, text)
    for name in now.keys() - seal.files.keys():
        yield error("unlisted_file", experiment.folder / name, "was not archived")


def _check_registration(seal: Seal, experiment: Experiment) -> Iterator[Finding]:
    now = experiment.registration
    if digest(seal.registration) != seal.registration_sha256:
        text = "the registration does not have the hash beside it"
        yield error("registration", experiment.folder / SEAL_FILE, text)
    for key, value in now.items():
        if seal.registration.get(key) != value:
            text = f"{experiment.name}.{key} was {_short(seal.registration.get(key))} when the runs"
            yield error("registration", MANIFEST_FILE, f"{text} were archived, is {_short(value)}")


def _check_seeds(collection: Collection, experiment: Experiment, root: Path) -> Iterator[Finding]:
    """Report runs whose seeds nothing registers: neither the manifest nor the plan of a sweep."""
    planned = {sweep.folder.resolve() for sweep in collection.sweeps if sweep.plan is not None}
    for run in collection.runs if not experiment.seeds else ():
        folder = sweep_folder(run)
        if folder is None or folder.resolve() not in planned:
            text = f"{experiment.name}.seeds is empty, and no plan.json of a staged sweep lists it"
            yield error("registration", _place(run, root), text)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_dates(collection: Collection, experiment: Experiment, root: Path) -> Iterator[Finding]:
    told = datetime.fromisoformat(experiment.registered)
    # a date without a time says the day: runs of that day are not before it
    registered = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
    for run in collection.runs:
        started = run.record.provenance.get("started_at")
        if started is None and not run.record.provenance:
            # it failed before it had read its data
            continue
        start = _start_of(run)
        if start is None:
            yield error("rule_after_run", _place(run, root), f"started_at is {started!r}, no time")
        elif start < registered:
            text = f"{experiment.name} is registered {experiment.registered}, after this run began"
            yield error("rule_after_run", _place(run, root), f"{text} ({started})")


def first_starts(published: Mapping[str, Published]) -> dict[str, tuple[Experiment, datetime]]:
    """Return {name: (experiment, start of its first run)} where any run tells its start."""
    found = {}
    for name, one in published.items():
        starts = [start for run in one.collection.runs if (start := _start_of(run)) is not None]
        if starts:
            found[name] = one.experiment, min(starts)
    return found


def _start_of(run: Run) -> datetime | None:
    """Return when a run began, None where its record tells no time."""
    try:
        start = datetime.fromisoformat(str(run.record.provenance.get("started_at")))
    except ValueError:
        return None
    return start if start.tzinfo is not None else start.replace(tzinfo=UTC)


def _check_complete(
    collection: Collection, experiment: Experiment, root: Path
) -> Iterator[Finding]:
    """Compare the runs with tasks x arms x seeds; a staged sweep has dropped some seeds of some."""
    counted = {run.record.path.resolve() for run in collection.runs}
    for path in sorted((root / experiment.folder).rglob("s*-*")):
        if is_run_dir(path) and path.resolve() not in counted:
            place = path.relative_to(root).as_posix()
            yield error("unregistered_run", place, "holds a run that stands elsewhere as well")
    found: dict[tuple[str, str], set[int | None]] = {}
    for run in collection.runs:
        found.setdefault((run.labels[0], run.arm), set()).add(run.seed)
        is_known = run.labels[0] in experiment.tasks and run.arm in experiment.arms
        if not is_known or (experiment.seeds and run.seed not in experiment.seeds):
            text = f"task {run.labels[0]}, arm {run.arm}, seed {run.seed} is not registered"
            yield error("unregistered_run", _place(run, root), text)
    for task in experiment.tasks:
        for arm in experiment.arms:
            seeds = found.get((task, arm))
            if seeds is None:
                text = f"arm {arm} of task {task} is registered under {experiment.name}"
                yield error("missing_run", experiment.folder, f"{text} and has no record")
                continue
            for seed in sorted(set(experiment.seeds) - seeds):
                text = f"arm {arm} of task {task} has no record of seed {seed}"
                yield error("missing_run", experiment.folder, text)


def _check_pairs(arm: Arm, root: Path) -> Iterator[Finding]:
    """Hold every pair against what its keys promise: one seed, one budget, one data set."""
    for gap in arm.gaps:
        if gap.code == "no_matched_baseline":
            yield error("pair", _place(gap.run, root), f"no matched baseline: {gap.text}")
    for run, base in arm.pairs:
        yield from _check_pair(run, base, root)


def _check_pair(run: Run, base: Run, root: Path) -> Iterator[Finding]:
    place, other = _place(run, root), _place(base, root)
    if run.seed != base.seed:
        yield error("pair", place, f"seed {run.seed}, its baseline has seed {base.seed}")
    ids = [one.examples.ids for one in (run, base) if one.examples is not None]
    if len(set(ids)) > 1:
        text = f"other examples than those of {other}"
        yield error("pair", f"{place}/{PREDICTIONS_FILE}", text)
    for key in HASHES:
        if run.hashes[key] != base.hashes[key]:
            text = f"{key} differs from that of {other}"
            yield error("pair", f"{place}/{PROVENANCE_FILE}", text)
    first, second = run.record.result or {}, base.record.result or {}
    for key in _PAIR_ANSWERS:
        if first.get(key) != second.get(key):
            yield error("pair", f"{place}/{RESULT_FILE}", f"{key} differs from that of {other}")
    is_twice = run.settings.get("control.kind") in _READ_TWICE
    for key in _PAIR_SPENT[:1] if is_twice else _PAIR_SPENT:
        if first.get(key) != second.get(key):
            text = f"{first.get(key)} {key}, {second.get(key)} in {other}"
            yield error("budget", f"{place}/{RESULT_FILE}", text)


def _check_outcomes(
    seal: Seal, collection: Collection, experiment: Experiment
) -> Iterator[Finding]:
    """Compare the rows as they are computed now with those that were archived."""
    place = experiment.folder / SEAL_FILE
    keys = ("task", "source", "model", "stage", "arm", "setting")
    archived = {tuple(row.get(key) for key in keys): row for row in seal.outcomes}
    for row in collection.comparisons:
        now = outcome_of(row)
        before = archived.pop(tuple(now[key] for key in keys), None)
        if before is None:
            yield error("outcome", place, f"{row_name(row)} is a row that was not archived")
            continue
        for text in changed_outcome(before, now):
            yield error("outcome", place, f"{row_name(row)}: {text}")
    for key in archived:
        text = f"{'/'.join(str(part) for part in key if part)} is a row no more"
        yield error("outcome", place, text)


def _tell_alarms(collection: Collection, experiment: Experiment, root: Path) -> Iterator[Finding]:
    folders = {
        f"{folder}/" for folder in (root / experiment.folder, (root / experiment.folder).resolve())
    }
    for alarm in collection.alarms:
        text = alarm
        for folder in folders:
            text = text.replace(folder, "")
        yield Finding("note", "alarm", str(experiment.folder), text)


def _place(run: Run, root: Path) -> str:
    path = run.record.path.resolve()
    return path.relative_to(root.resolve()).as_posix()
