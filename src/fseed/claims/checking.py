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
from fseed.claims.experiment_checks import Published, check_experiment, load_published
from fseed.claims.findings import Finding, error
from fseed.claims.generated import FIGURES_FOLDER, TABLES_FOLDER, render_all
from fseed.claims.manifest import RECORDS_FOLDER, Manifest, read_manifest
from fseed.claims.references import read_marks


@dataclass(frozen=True)
class Report:
    """What was checked and what was found, in the order of the checks."""

    findings: list[Finding]
    num_experiments: int
    num_runs: int
    num_references: int


def check_claims(root: Path) -> Report:
    """Check manifest, records, generated texts and documents below ``root``.

    Raises:
        UserError: if the manifest cannot be used.
    """
    manifest = read_manifest(root)
    published, findings = _load_all(root, manifest)
    for one in published.values():
        findings += check_experiment(root, one)
    findings += _check_folders(root, manifest)
    findings += _check_generated(root, manifest, published)
    findings += check_documents(root, manifest, published)
    texts = [read_document(root / path) for path in find_documents(root)]
    return Report(
        findings,
        num_experiments=len(published),
        num_runs=sum(len(one.collection.runs) for one in published.values()),
        num_references=sum(len(read_marks(text).references) for text in texts),
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
    """Report records of experiments that nobody registered."""
    folders = sorted((root / RECORDS_FOLDER).glob("*/"))
    return [
        error("unregistered_run", folder.relative_to(root), "is in no entry of the manifest")
        for folder in folders
        if folder.name not in manifest.experiments and not folder.name.startswith(".")
    ]


def _check_generated(
    root: Path, manifest: Manifest, published: Mapping[str, Published]
) -> list[Finding]:
    wanted = render_all(manifest, published)
    stale = [path for path, text in wanted.items() if _read(root / path) != text]
    stale += _stray_files(root, wanted)
    text = "is not what the records give; run python -m fseed.check render"
    return [error("stale", path, text) for path in stale]


def _stray_files(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Return tables and figures of experiments that the manifest no longer has."""
    found = [
        path.relative_to(root)
        for folder, pattern in ((TABLES_FOLDER, "*.md"), (FIGURES_FOLDER, "*.svg"))
        for path in sorted((root / folder).glob(pattern))
    ]
    return [path for path in found if path not in wanted]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
