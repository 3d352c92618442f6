"""The audit of earlier results as files: Markdown to read, its rows as CSV and Parquet."""

from collections.abc import Sequence
from pathlib import Path

from fseed.errors import UserError
from fseed.records import write_text_atomic
from fseed.results.collection import Collection
from fseed.results.export import write_data
from fseed.results.legacy.audit import Audit
from fseed.results.legacy.frame import legacy_rows
from fseed.results.legacy.outcomes import outcome_rows
from fseed.results.legacy.render import render_audit_markdown

LEGACY_FILE = "legacy.md"


def write_audit(
    audit: Audit, folder: Path, *, formats: Sequence[str], ours: Collection | None = None
) -> list[Path]:
    """Write legacy.md, the earlier runs, and published / matched / ours; return the paths.

    Scores in data files are fractions. UserError when the folder cannot be written.
    """
    data = {"legacy_runs": legacy_rows(audit), "legacy_outcomes": outcome_rows(audit, ours=ours)}
    written: list[Path] = []
    try:
        if "markdown" in formats:
            written.append(folder / LEGACY_FILE)
            write_text_atomic(written[-1], render_audit_markdown(audit, ours=ours))
        return written + write_data(data, folder, formats=formats)
    except OSError as error:
        raise UserError(f"cannot write the audit to {folder}: {error}; choose --out") from error
