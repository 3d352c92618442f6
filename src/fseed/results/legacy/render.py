"""The audit as lines for a terminal and as Markdown; differences in percentage points."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fseed.results.formats import MISSING, interval, points, seed_ranges
from fseed.results.legacy.audit import FLAW_KINDS, Audit
from fseed.results.legacy.model import Flaw
from fseed.results.legacy.outcomes import outcome_rows

if TYPE_CHECKING:
    from fseed.results.collection import Collection

_SHOWN = 3  # flaws of a kind on a terminal; Markdown holds all of them
_LEGEND = (
    "published: as compared then; matched: the same arm and seeds at the budget of its baseline; "
    "ours: our row of the highest stage for this task, order and preset; all in pp."
)


def render_audit_lines(audit: Audit, *, ours: "Collection | None" = None) -> list[str]:
    """Return the audit for a terminal: counts, the first flaws of every kind, the table."""
    lines = [*_headings(audit), "", f"flaws ({len(audit.flaws)})"]
    for code, count in audit.counts.items():
        flaws = [flaw for flaw in audit.flaws if flaw.code == code]
        lines.append(f"  {count:>3} {code}: {FLAW_KINDS[code]}")
        lines += [f"        {_line(flaw, audit)}" for flaw in flaws[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"        and {count - _SHOWN} more, listed in the Markdown file")
    lines += ["", "published / matched / ours", *_aligned(_outcome_cells(audit, ours)), _LEGEND]
    return lines + _trouble(audit)


def render_audit_markdown(audit: Audit, *, ours: "Collection | None" = None) -> str:
    """Return the whole audit: every flaw, every published row, the table."""
    parts = ["# Audit of the earlier results", "\n".join(f"- {line}" for line in _headings(audit))]
    parts += ["## Published, matched, ours", _markdown(_outcome_cells(audit, ours)), _LEGEND]
    if audit.published:
        parts += ["## Published figures against the files", _markdown(_published_cells(audit))]
    parts += ["## Flaws", _markdown(_kind_cells(audit))]
    for code in audit.counts:
        listed = [f"- {_line(flaw, audit)}" for flaw in audit.flaws if flaw.code == code]
        parts += [f"### {code}: {FLAW_KINDS[code]}", "\n".join(listed)]
    trouble = _trouble(audit)
    parts += ["\n".join(f"- {line.strip()}" for line in trouble if line)] if trouble else []
    return "\n\n".join(parts) + "\n"


def _line(flaw: Flaw, audit: Audit) -> str:
    """Return a flaw with its place, below the folder of the audit where it lies there."""
    return f"{flaw.subject}: {flaw.text} ({flaw.place.removeprefix(f'{audit.path}/')})"


def _headings(audit: Audit) -> list[str]:
    """Return what was read, and how many published figures it gives again."""
    counts = {
        "files": audit.num_files,
        "runs": len(audit.runs),
        "studies over seeds": len(audit.studies),
        "lines of round summaries": len(audit.claims),
        "manifest entries": len(audit.entries),
    }
    told = ", ".join(f"{name}: {number:,}" for name, number in counts.items())
    lines = [f"earlier results in {audit.path}", told]
    for name, is_mean in (("means over seeds", True), ("single runs of searches", False)):
        rows = [row for row in audit.published if row.is_multi_seed is is_mean]
        good = sum(row.problem is None for row in rows)
        lines += [f"published {name}: {good} of {len(rows)} reproduced"] if rows else []
    return lines


def _trouble(audit: Audit) -> list[str]:
    """Return the files of no known form and those that could not be read, each by path."""
    lines = [f"  {path}" for path in audit.foreign]
    lines = ["", f"files of no known form ({len(lines)})", *lines] if lines else []
    if audit.problems:
        lines += ["", f"not read ({len(audit.problems)})", *(f"  {one}" for one in audit.problems)]
    return lines


def _outcome_cells(audit: Audit, ours: "Collection | None") -> list[dict[str, str]]:
    return [_cells(row) for row in outcome_rows(audit, ours=ours)]


def _cells(row: dict[str, Any]) -> dict[str, str]:
    mine = " ".join(str(row[f"ours_{key}"]) for key in ("stage", "model", "source"))
    return {
        "task": str(row["task"]),
        "study": row["study"],
        "arm": row["arm"],
        "seeds": seed_ranges(row["seeds"]) if row["seeds"] else MISSING,
        "budgets": row["budgets"],
        "published": points(row["published"]),
        "matched": points(row["matched"]),
        "ours": points(row["ours"]),
        "ours 95 %": interval(row["ours_low"], row["ours_high"], kind=None),
        "verdict": row["ours_verdict"] or MISSING,
        "our runs": mine if row["ours_stage"] is not None else MISSING,
    }


def _published_cells(audit: Audit) -> list[dict[str, str]]:
    return [
        {
            "line": str(row.line),
            "study": row.row["study"],
            "task": row.row["task"],
            "stage": row.row["stage"],
            "preset": row.row["preset"] or MISSING,
            "length": row.row.get("length_tokens") or MISSING,
            "published pp": points(row.difference),
            "from the files pp": points(row.again),
            "result": "reproduced" if row.problem is None else row.problem,
        }
        for row in audit.published
    ]


def _kind_cells(audit: Audit) -> list[dict[str, str]]:
    return [
        {"flaw": code, "number": str(count), "what it means": FLAW_KINDS[code]}
        for code, count in audit.counts.items()
    ]


def _aligned(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the rows as columns of equal width, numbers to the right."""
    if not rows:
        return ["  none"]
    table = [dict(zip(rows[0], rows[0], strict=True)), *rows]
    widths = {name: max(len(row[name]) for row in table) for name in rows[0]}
    right = ("published", "matched", "ours")
    return [
        "  "
        + "  ".join(
            row[name].rjust(width) if name in right else row[name].ljust(width)
            for name, width in widths.items()
        ).rstrip()
        for row in table
    ]


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return "none"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
