"""The whole check, and its counterpart that writes what the records say."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fseed.atomic import write_text_atomic
from fseed.claims.documents import (
    GENERATED,
    check_documents,
    find_documents,
    read_document,
    render_document,
)
from fseed.claims.experiment_checks import (
    Published,
    check_experiment,
    first_starts,
    load_published,
)
from fseed.claims.findings import Finding, error
from fseed.claims.generated import FIGURES_FOLDER, NOTICE, TABLES_FOLDER, render_all
from fseed.claims.history import check_history
from fseed.claims.manifest import MANIFEST_FILE, RECORDS_FOLDER, Manifest, read_manifest
from fseed.claims.numbers import find_unmarked
from fseed.claims.raw import RAW_FOLDERS, RAW_LIST, check_raw
from fseed.claims.references import NOT_A_RESULT, read_marks
from fseed.record_schema import RecordError, check_size


@dataclass(frozen=True)
class Report:
    """What was checked and what was found, in the order of the checks."""

    findings: list[Finding]
    num_experiments: int
    num_runs: int
    num_references: int
    num_excused: int  # results that a mark says are none


def check_claims(root: Path) -> Report:
    """Check manifest, records, generated texts and documents below ``root``.

    Raises:
        UserError: if the manifest cannot be used.
    """
    manifest = read_manifest(root)
    published, findings = _load_all(root, manifest)
    for one in published.values():
        findings += check_experiment(root, one)
    findings += check_history(root, first_starts(published))
    findings += _check_folders(root, manifest)
    findings += check_raw(root)
    findings += _check_generated(root, manifest, published)
    findings += check_documents(root, manifest, published)
    found = find_documents(root)
    texts = [read_document(root / path) for path in found]
    claims = [
        text
        for path, text in zip(found, texts, strict=True)
        if path not in GENERATED and path.as_posix() not in manifest.logs
    ]
    return Report(
        findings,
        num_experiments=len(published),
        num_runs=sum(len(one.collection.runs) for one in published.values()),
        num_references=sum(len(read_marks(text).references) for text in texts),
        num_excused=sum(
            number.excuse == NOT_A_RESULT for text in claims for number in find_unmarked(text)
        ),
    )


def render_claims(root: Path) -> tuple[list[Path], list[str]]:
    """Write generated texts and the references of every document.

    Returns the paths that changed, below ``root``, and what could not be rendered.
    """
    manifest = read_manifest(root)
    published, _ = _load_all(root, manifest)
    wanted = render_all(manifest, published)
    unknown: list[str] = []
    for path in find_documents(root):
        if path in GENERATED or path.as_posix() in manifest.logs:
            continue
        text = read_document(root / path)
        wanted[path], told = render_document(text, published)
        unknown += [f"{path}: {line}" for line in told]
    changed = [path for path, text in wanted.items() if _read(root / path) != text]
    for path in changed:
        write_text_atomic(root / path, wanted[path])
    for path in _stray_files(root, wanted):
        # what someone drew or wrote by hand is reported, and theirs to move
        if NOTICE in (_read(root / path) or ""):
            (root / path).unlink()
            changed.append(path)
    return changed, unknown


def _load_all(root: Path, manifest: Manifest) -> tuple[dict[str, Published], list[Finding]]:
    published: dict[str, Published] = {}
    findings: list[Finding] = []
    for name, experiment in manifest.experiments.items():
        one, told = load_published(root, experiment)
        findings += told
        if one is not None:
            published[name] = one
    return published, findings


def _check_folders(root: Path, manifest: Manifest) -> list[Finding]:
    """Report records of experiments that nobody registered, and files that nothing speaks for."""
    findings: list[Finding] = []
    for path in sorted((root / RECORDS_FOLDER).glob("*")):
        if path.is_dir() and path.name not in manifest.experiments and path.name[0] != ".":
            text = "is in no entry of the manifest"
            findings.append(error("unregistered_run", path.relative_to(root), text))
        elif not path.is_dir():
            text = "belongs to no experiment"
            findings.append(error("unlisted_file", path.relative_to(root), text))
    for path in _unknown_files(root, manifest):
        text = "is no document, no record, no generated file and no listed raw file"
        findings.append(error("unlisted_file", path, text))
    return findings


def _unknown_files(root: Path, manifest: Manifest) -> list[Path]:
    """Return files below paper/ that no check reads; those in its known folders are told there."""
    known = {RECORDS_FOLDER, str(TABLES_FOLDER), str(FIGURES_FOLDER)}
    known |= {f"paper/{name}" for name in RAW_FOLDERS}
    read = {MANIFEST_FILE, RAW_LIST.as_posix(), *manifest.logs}
    read |= {path.as_posix() for path in find_documents(root)}
    found = [path.relative_to(root) for path in sorted((root / "paper").rglob("*"))]
    return [
        path
        for path in found
        if "/".join(path.parts[:2]) not in known
        and path.as_posix() not in read
        and path.name[0] != "."
        and not (root / path).is_dir()
    ]


def _check_generated(
    root: Path, manifest: Manifest, published: Mapping[str, Published]
) -> list[Finding]:
    wanted = render_all(manifest, published)
    stale = [path for path, text in wanted.items() if _read(root / path) != text]
    text = "is not what the records give; run python -m fseed.check render"
    strange = "was not generated from records; only what was may lie here"
    return [error("stale", path, text) for path in stale] + [
        error("stale", path, strange) for path in _stray_files(root, wanted)
    ]


def _stray_files(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Return what lies among tables and figures and is none of an experiment."""
    found = [
        path.relative_to(root)
        for folder in (TABLES_FOLDER, FIGURES_FOLDER)
        for path in sorted((root / folder).rglob("*"))
        if not path.is_dir() and path.name[0] != "."
    ]
    return [path for path in found if path not in wanted]


def _read(path: Path) -> str | None:
    try:
        check_size(path)
        return path.read_text(encoding="utf-8")
    except (OSError, RecordError, UnicodeDecodeError):
        return None
