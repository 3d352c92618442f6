"""README.md and *.md below paper/: which of them make claims, and whether the claims hold."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fseed.claims.experiment_checks import Published
from fseed.claims.findings import Finding, error
from fseed.claims.generated import FAILURES_FILE, render_tables
from fseed.claims.manifest import Manifest
from fseed.claims.numbers import find_unmarked
from fseed.claims.raw import RAW_FOLDERS
from fseed.claims.references import (
    NOT_RECORDED,
    SOURCE,
    Reference,
    mask_code,
    read_marks,
    replace_texts,
)
from fseed.claims.values import PERCENT, POINTS, resolve, rows_of
from fseed.errors import UserError
from fseed.record_schema import RecordError, check_size
from fseed.results.comparison import Comparison

MUTATIONS_FILE = Path("paper/mutations.md")
# whole files that a command writes: the check compares failures.md with what render gives now, and
# tests/claims/test_mutations.py does the same for mutations.md, which needs the damaged studies
GENERATED = (FAILURES_FILE, MUTATIONS_FILE)
_NO_DOCUMENTS = {("paper", name) for name in ("records", "tables", *RAW_FOLDERS)}
_LINKS = (
    re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)"),
    re.compile(r"^ {0,3}\[[^\]^][^\]]*\]:\s*<?([^\s>]+)", re.MULTILINE),
    re.compile(r"<[a-z][^<>]*\s(?:src|href)=[\"']?([^\s\"'<>]+)", re.IGNORECASE),
)
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|#|//", re.IGNORECASE)
_UNIT_WORDS = {
    **{"%": PERCENT, "percent": PERCENT},
    **{"pp": POINTS, "percentage points": POINTS, "percentage point": POINTS},
}
_UNIT_BEHIND = re.compile(
    r"(?:[\s*_\u200b]|&\w+;){0,6}"
    r"(%|percent\b(?!age)|pp\b|percentage points?\b|(?:ms|s|h|min|nats|GiB|x|times)\b)"
)


def find_documents(root: Path) -> list[Path]:
    """Return README.md and the texts below paper/, relative to ``root``.

    Records, tables and raw output are none.
    """
    found = [root / "README.md", *sorted((root / "paper").rglob("*.[mM][dD]"))]
    found = [path.relative_to(root) for path in found]
    return [path for path in found if path.parts[:2] not in _NO_DOCUMENTS]


def read_document(path: Path) -> str:
    """Return the text of a document; UserError when it is no UTF-8."""
    try:
        check_size(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RecordError) as problem:
        raise UserError(f"{path} cannot be read: {problem}") from problem


def check_documents(
    root: Path, manifest: Manifest, published: Mapping[str, Published]
) -> list[Finding]:
    """Check references, numbers and links of every document; logs for their links only."""
    findings: list[Finding] = []
    quoted: list[Reference] = []
    for path in find_documents(root):
        text = read_document(root / path)
        findings += _check_links(root, path, text)
        if path.as_posix() in manifest.logs or path in GENERATED:
            continue
        marks = read_marks(text)
        quoted += marks.references
        findings += [error("reference", f"{path}:{line}", told) for line, told in marks.problems]
        for reference in marks.references:
            findings += _check_reference(reference, text, path=path, published=published)
        findings += _check_unmarked(root, path, text, logs=manifest.logs)
    findings += _missing_logs(root, manifest)
    return findings + list(_unquoted(quoted, published))


def render_document(text: str, published: Mapping[str, Published]) -> tuple[str, list[str]]:
    """Return the document with every reference rendered, and the keys that name nothing."""
    changes: list[tuple[Reference, str]] = []
    unknown: list[str] = []
    for reference in read_marks(text).references:
        try:
            changes.append((reference, render_reference(reference, published)))
        except UserError as problem:
            unknown.append(f"line {reference.line}: {reference.key}: {problem}")
    return replace_texts(text, changes), unknown


def render_reference(reference: Reference, published: Mapping[str, Published]) -> str:
    """Return what must stand between the markers; UserError when the key names nothing."""
    if reference.table is None:
        return resolve(reference.key, published).text
    if reference.table not in published:
        raise UserError(f"no archived experiment {reference.table!r}")
    return f"\n\n{render_tables(published[reference.table])}\n\n"


def _check_reference(
    reference: Reference, text: str, *, path: Path, published: Mapping[str, Published]
) -> Iterator[Finding]:
    place = f"{path}:{reference.line}"
    try:
        wanted = render_reference(reference, published)
    except UserError as problem:
        yield error("reference", place, f"{reference.key}: {str(problem).splitlines()[0]}")
        return
    if reference.table is None and reference.begins_line:
        told = f"{reference.key} begins a line, which ends the paragraph; put a word before it"
        yield Finding("strict", "reference", place, told)
    if reference.text != wanted and reference.table is not None:
        yield error("stale", place, f"{reference.key} is not what the records give; render it")
    elif reference.text != wanted:
        told = f"{reference.key} is {wanted}, the document says {reference.text.strip()}"
        yield error("number", place, told)
    before = text[text.rfind("<!--", 0, reference.start) - 1]
    after = text[reference.closed_at : reference.closed_at + 2]
    if before in "-+−.,0123456789" or re.match(r"[.,]?\d", after):
        yield error("number", place, f"{reference.key} has {before + after!r} around it")
    behind = _UNIT_BEHIND.match(text, reference.closed_at)
    unit = resolve(reference.key, published).unit if reference.table is None else None
    told_unit = _UNIT_WORDS.get(behind[1], behind[1]) if behind is not None else unit
    if behind is not None and told_unit != unit and (unit or told_unit in (PERCENT, POINTS)):
        told = f"{reference.key} is in {unit or 'no unit'}, the document says {behind[1]}"
        yield error("unit", place, told)


def _claiming(root: Path, logs: Collection[str]) -> list[Path]:
    """Return the documents that are checked themselves: such a one is no source."""
    return [path for path in find_documents(root) if path.as_posix() not in logs]


def _check_unmarked(
    root: Path, path: Path, text: str, *, logs: Collection[str]
) -> Iterator[Finding]:
    """Report results outside references that no mark speaks for, and marks that tell nothing."""
    for number in find_unmarked(text):
        place, excuse = f"{path}:{number.line}", number.excuse
        if excuse is None:
            yield Finding("strict", "unmarked", place, f"{number.text!r} is no reference")
        elif excuse == NOT_RECORDED:
            yield Finding(
                "note", "unrecorded", place, f"{number.text!r} was measured, not recorded"
            )
        elif excuse.startswith(SOURCE):
            source = excuse.removeprefix(SOURCE).strip()
            inside = source.startswith("paper/") and ".." not in source
            if not inside or Path(source) in _claiming(root, logs):
                yield error("link", place, f"source {source} is no raw output below paper/")
            elif not os.path.isfile(root / source):
                yield error("link", place, f"source {source} does not exist")
            elif not _holds(root / source, number.text):
                yield error("number", place, f"{number.text!r} does not occur in {source}")


def _holds(source: Path, number: str) -> bool:
    """Tell whether every figure of ``number`` occurs in a file as a figure of its own."""
    text = source.read_text(encoding="utf-8", errors="replace")
    return all(
        re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d]|\.\d)", text)
        for figure in re.findall(r"\d[\d,]*(?:\.\d+)?", number)
    )


def _check_links(root: Path, path: Path, text: str) -> Iterator[Finding]:
    """Report links to files that do not exist; other sites are not visited."""
    masked = mask_code(text)
    for match in (match for pattern in _LINKS for match in pattern.finditer(masked)):
        target = match[1].split("#")[0]
        if (
            target
            and not _EXTERNAL.match(match[1])
            and not os.path.exists(root / path.parent / target)
        ):
            line = masked.count("\n", 0, match.start()) + 1
            yield error("link", f"{path}:{line}", f"{match[1]} does not exist")


def _missing_logs(root: Path, manifest: Manifest) -> Iterator[Finding]:
    for name in manifest.logs:
        if not (root / name).is_file():
            yield error("link", "paper/manifest.yaml", f"log {name} does not exist")


def _unquoted(references: list[Reference], published: Mapping[str, Published]) -> Iterator[Finding]:
    """Name the rows that no document quotes; paper/tables holds them all the same."""
    keys = [reference.key for reference in references]
    whole = {reference.table for reference in references}
    for name, one in published.items():
        for row in one.collection.comparisons if name not in whole else ():
            if not any(_quotes(key, name, one, row) for key in keys):
                labels = "/".join(part for part in (row.task, row.stage, row.setting) if part)
                text = f"{name}: {labels}/{row.arm} ({row.verdict}) is quoted nowhere"
                yield Finding("note", "unreferenced", f"paper/tables/{name}.md", text)


def _quotes(key: str, name: str, published: Published, row: Comparison) -> bool:
    head, _, _ = key.rpartition(".")
    first, *parts = head.split("/")
    rows = published.collection.comparisons
    return bool(first == name and parts) and rows_of(rows, parts) == [row]
