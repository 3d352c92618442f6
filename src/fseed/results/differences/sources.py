"""Runs to compare, from what a user names: a run directory, a config.yaml, the start of a run id.

Only configuration, choices and provenance are read; a run need not be finished.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.record_schema import CONFIG_FILE, RecordError, read_mapping
from fseed.records import RunRecord, is_run_dir, read_run, scan
from fseed.results.differences.runs import Sample
from fseed.results.runs import config_leaves

MIN_ID_LENGTH = 4  # hexadecimal digits of a run id
_RUN_ID_START = re.compile(rf"[0-9a-f]{{{MIN_ID_LENGTH},10}}")
_MAX_NAMED = 3


@dataclass(frozen=True)
class Source:
    """One run or configuration with its names; None where no record tells."""

    sample: Sample
    path: Path
    arm: str | None = None
    run_id: str | None = None
    status: str | None = None

    @property
    def task(self) -> str:
        """Return the name of the task, "?" where the configuration has none."""
        return str(self.sample.settings.get("task.name", "?"))

    @property
    def stage(self) -> str:
        """Return the stage, "?" where the configuration has none."""
        return str(self.sample.settings.get("sweep.stage", "?"))

    @property
    def sweep(self) -> str:
        """Return the name of the sweep, "?" where the configuration has none."""
        return str(self.sample.settings.get("sweep.name", "?"))

    @property
    def seed(self) -> Any:
        """Return the seed, None where the configuration has none."""
        return self.sample.settings.get("seed")

    @property
    def title(self) -> str:
        """Return what people call this run, without any folder."""
        named = [self.task, self.stage, self.arm, f"seed {self.seed}"]
        name = f"run {self.run_id}" if self.run_id is not None else self.path.name
        return ", ".join(text for text in (*named, name) if text is not None)


def find_source(name: str, *, root: Path) -> Source:
    """Return the run that ``name`` stands for; ids are looked up below ``root``.

    Raises:
        UserError: if there is no such run, several of them, or one that cannot be read.
    """
    path = Path(name)
    if path.is_file():
        return _read_config(path)
    if path.is_dir():
        if not is_run_dir(path) and not (path / CONFIG_FILE).is_file():
            raise UserError(_not_one_run(path))
        return _source_or_error(read_run(path))
    if _RUN_ID_START.fullmatch(name) is None:
        raise UserError(
            f"{name}: no such file or folder; give a run directory, a config.yaml or the first "
            f"{MIN_ID_LENGTH} digits of a run id"
        )
    return _source_or_error(read_run(_find_id(name, root)))


@dataclass(frozen=True)
class SweepRecords:
    """The runs below one folder; ``problems``: a line for each that cannot be compared as it is."""

    name: str
    sources: Sequence[Source]
    problems: Sequence[str]
    num_foreign_files: int

    def notes(self) -> list[str]:
        """Return what was passed over, in one line or none."""
        number = self.num_foreign_files
        return [f"{number:,} files that belong to no run passed over"] if number else []


def read_sweep(folder: Path) -> SweepRecords:
    """Read the runs below ``folder``; one that lies there twice is a problem and counted once.

    Raises:
        UserError: if ``folder`` is none or holds no run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a sweep")
    found = scan([folder])
    records = [read_run(path) for path in found.run_dirs] + found.unreadable
    if not records:
        raise UserError(f"{folder} holds no runs; give the folder of a sweep")
    sources: dict[str, Source] = {}
    problems: list[str] = []
    for record in records:
        problem = _problem(record)
        known = sources.get(record.run_id or "")
        if problem is None and known is not None:
            problem = f"the same run as {_below(known.path, folder)}"
        if problem is None:
            sources[record.run_id or str(record.path)] = _source(record)
        else:
            problems.append(f"{_below(record.path, folder)}: {problem}")
    name = folder.resolve().name
    return SweepRecords(name, list(sources.values()), problems, found.num_foreign_files)


def _read_config(path: Path) -> Source:
    if path.suffix != ".yaml":
        raise UserError(f"{path}: not a .yaml file; give a run directory or its config.yaml")
    try:
        config = read_mapping(path)
    except (OSError, RecordError) as error:
        raise UserError(f"{path}: {error}") from error
    return Source(Sample(dict(config_leaves(config)), {}), path)


def _source_or_error(record: RunRecord) -> Source:
    problem = _problem(record)
    if problem is not None:
        raise UserError(f"{record.path}: {problem}")
    return _source(record)


def _problem(record: RunRecord) -> str | None:
    """Return why a record cannot be compared, or None."""
    if record.status == "unreadable":
        return record.reason
    return None if record.config else f"{CONFIG_FILE} is missing"


def _source(record: RunRecord) -> Source:
    arm = record.choices.get("arm") or (
        record.path.parent.name if is_run_dir(record.path) else None
    )
    sample = Sample(dict(config_leaves(record.config)), record.provenance)
    return Source(sample, record.path, arm, record.run_id, record.status)


def _find_id(start: str, root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"{start}: no run of that id, {root} does not exist; give a run directory")
    runs = [
        path for path in scan([root]).run_dirs if path.name.rpartition("-")[2].startswith(start)
    ]
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise UserError(f"{start}: no run of that id below {root}; give a run directory")
    raise UserError(f"{start}: {len(runs)} runs below {root}: {_some(runs, root)}; give one path")


def _not_one_run(folder: Path) -> str:
    num_runs = len(scan([folder]).run_dirs)
    if num_runs == 0:
        return f"{folder}: neither a run directory nor a folder of runs"
    return f"{folder}: holds {num_runs} runs; give one of them, or --sweep {folder}"


def _some(paths: Sequence[Path], root: Path) -> str:
    named = [str(_below(path, root)) for path in paths[:_MAX_NAMED]]
    return ", ".join([*named, "..."] if len(paths) > _MAX_NAMED else named)


def _below(path: Path, folder: Path) -> Path:
    """Return ``path`` as seen from ``folder`` where it lies below it."""
    resolved = folder.resolve()
    return path.relative_to(resolved) if path.is_relative_to(resolved) else path
