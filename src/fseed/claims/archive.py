"""Keep the records of finished sweeps below ``paper/records``: small, and without anyone's data.

Copied are configuration, choices, provenance, metrics, predictions, result or failure, plan and
decisions of a staged sweep. Left out are checkpoints, weights, folders of the machine, and, where
rows are not generated, the texts that the model wrote.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fseed.atomic import write_json_atomic, write_text_atomic
from fseed.claims.manifest import Experiment, Manifest
from fseed.claims.run_checks import ARCHIVED, check_run
from fseed.claims.scrub import PUBLIC_SOURCES, hash_generated_text, scrub
from fseed.claims.seal import Seal, build_seal, relative, write_seal
from fseed.errors import UserError, did_you_mean
from fseed.identity import ARM_KEYS, VOLATILE_KEYS, canonical_arm
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
)
from fseed.results.collection import Collection, collect_runs
from fseed.results.runs import Run

SWEEP_FILES = ("plan.json", "decisions.jsonl")
_COPIED = (METRICS_FILE, PREDICTIONS_FILE, RESULT_FILE)
_SCRUBBED = (CHOICES_FILE, PROVENANCE_FILE, FAILURE_FILE)
_DEPTH = 4  # <task>/<stage>/<arm>/<run> below the folder of a sweep


def archive_sweeps(
    root: Path, manifest: Manifest, *, name: str, sweeps: Sequence[Path]
) -> tuple[Path, Seal]:
    """Replace the archive of experiment ``name`` by the records of ``sweeps``.

    Raises:
        UserError: if the experiment is not registered, a run is not finished, not registered or
            does not belong to its own configuration; the old archive then stays.
    """
    experiment = find_experiment(manifest, name)
    target = root / experiment.folder
    building = target.with_name(f".{name}.new")
    shutil.rmtree(building, ignore_errors=True)
    try:
        collection = _copy_all(experiment, sweeps, building)
        known = [run for run in collection.runs if run.arm_key is not None]
        arms = {str(run.arm_key): _read_arm(run) for run in known}
        seal = build_seal(
            experiment,
            building,
            collection=collection,
            arms=arms,
            hidden_keys=(*ARM_KEYS, *VOLATILE_KEYS),
        )
        _refuse_wrong_runs(collection, seal, building)
        write_seal(seal, building)
        shutil.rmtree(target, ignore_errors=True)
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target, seal


def find_experiment(manifest: Manifest, name: str) -> Experiment:
    """Return the entry called ``name``; UserError with near names."""
    if name not in manifest.experiments:
        near = did_you_mean(name, manifest.experiments)
        raise UserError(
            f"experiment {name!r} is not in paper/manifest.yaml{near}\n"
            "write its question, rule and arms there before its runs"
        )
    return manifest.experiments[name]


def _copy_all(experiment: Experiment, sweeps: Sequence[Path], building: Path) -> Collection:
    names = [sweep.resolve().name for sweep in sweeps]
    if len(set(names)) != len(names):
        raise UserError(f"sweeps of one name: {', '.join(map(str, sweeps))}; archive one of them")
    for sweep in sweeps:
        found = collect_runs([sweep])
        if not found.runs:
            raise UserError(f"{sweep} holds no runs; give the folder of a sweep")
        for run in found.runs:
            _check_archivable(experiment, run, sweep)
            _copy_run(run, building / sweep.resolve().name / relative(run.record.path, sweep))
        for file in SWEEP_FILES:
            if (sweep / file).is_file():
                text = (sweep / file).read_text()
                write_text_atomic(building / sweep.resolve().name / file, scrub(text))
    return collect_runs([building], margin=experiment.margin)


def _check_archivable(experiment: Experiment, run: Run, sweep: Path) -> None:
    path = run.record.path
    if run.status not in ARCHIVED:
        raise UserError(f"{path} is {run.status} ({run.reason})\nfinish the sweep, then archive it")
    if len(Path(relative(path, sweep)).parts) != _DEPTH:
        raise UserError(f"{path} does not lie <task>/<stage>/<arm>/<run> below {sweep}")
    known = run.labels[0] in experiment.tasks and run.arm in experiment.arms
    if not known or (experiment.seeds and run.seed not in experiment.seeds):
        raise UserError(
            f"{path} (task {run.labels[0]}, arm {run.arm}, seed {run.seed}) is not registered "
            f"under {experiment.name}\ngive the experiment a sweep of its own: sweep.name=NAME"
        )


def _copy_run(run: Run, target: Path) -> None:
    source = run.record.path
    target.mkdir(parents=True)
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    contents = (run.record.choices, run.record.provenance, run.record.failure)
    for name, content in zip(_SCRUBBED, contents, strict=True):
        if content:
            write_json_atomic(target / name, scrub(content))
    if run.record.config:
        _write_config(target, run.record.config)
    is_public = run.settings.get("data.source") in PUBLIC_SOURCES
    if not is_public and (target / PREDICTIONS_FILE).is_file():
        hash_generated_text(target / PREDICTIONS_FILE)


def _write_config(target: Path, config: Mapping[str, Any]) -> None:
    import yaml

    text = yaml.safe_dump(scrub(config), sort_keys=False)
    write_text_atomic(target / CONFIG_FILE, text)


def _read_arm(run: Run) -> dict[str, Any]:
    """Return the Future-Seed part of a configuration as identity hashes it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from fseed.config.schema import RunConfig

    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), run.record.config)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as problem:
        raise UserError(f"{run.record.path}/{CONFIG_FILE}: {problem}") from problem
    assert isinstance(config, RunConfig)
    return canonical_arm(config)


def _refuse_wrong_runs(collection: Collection, seal: Seal, building: Path) -> None:
    problems = [finding for run in collection.runs for finding in check_run(run, seal, building)]
    if problems:
        told = "\n".join(str(finding) for finding in problems[:2])
        raise UserError(f"{len(problems)} contradictions in the records, such as\n{told}")
