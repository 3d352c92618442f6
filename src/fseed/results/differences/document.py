"""Sections of lines and tables, as text for a terminal, as Markdown and as one HTML page."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fseed.plain_text import plain_markdown, plain_text

_STYLE = """\
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
div { overflow-x: auto; } table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: left; }
td { font-family: ui-monospace, monospace; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Table:
    """A header and rows of cells, as text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_fixed: int = 2  # leading cells that name a row; the others are values


@dataclass(frozen=True)
class Section:
    """A title, lines under it, then a table, then closing lines; each may be missing."""

    title: str = ""
    lines: Sequence[str] = field(default_factory=tuple)
    table: Table | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def render_text(sections: Sequence[Section], *, width: int) -> str:
    """Return plain text; a table wider than ``width`` characters becomes a block per row."""
    parts = []
    for section in sections:
        lines = [section.title] if section.title else []
        lines += [f"  {line}" if section.title else line for line in section.lines]
        if section.table is not None and section.table.rows:
            lines += ["", *_text_table(section.table, width=width), ""]
        parts.append("\n".join([*lines, *section.notes]).strip("\n"))
    return plain_text("\n\n".join(part for part in parts if part)) + "\n"


def render_markdown(sections: Sequence[Section]) -> str:
    """Return Markdown with values as code, so that nothing in them is markup."""
    parts = []
    for section in sections:
        parts += [f"## {section.title}"] if section.title else []
        parts += _markdown_list(section.lines)
        if section.table is not None and section.table.rows:
            parts.append("\n".join(_markdown_table(section.table)))
        parts += _markdown_list(section.notes)
    return plain_text("\n\n".join(parts)) + "\n"


def render_html(sections: Sequence[Section], *, title: str) -> str:
    """Return one page that needs no network, readable in a light and a dark scheme."""
    body = "\n".join(part for section in sections for part in _html_section(section))
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{name}</h1>\n{body}\n</body>\n</html>\n"
    )


def _text_table(table: Table, *, width: int) -> list[str]:
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    if sum(widths) + 2 * len(widths) > width and len(table.header) > table.num_fixed + 1:
        return list(_blocks(table))
    cells = ([cell.ljust(size) for cell, size in zip(row, widths, strict=True)] for row in rows)
    return [("  " + "  ".join(row)).rstrip() for row in cells]


def _blocks(table: Table) -> Iterator[str]:
    """Yield each row as a line of its name and a line per value with the columns that have it."""
    for row in table.rows:
        yield "  " + "  ".join(row[: table.num_fixed])
        owners: dict[str, list[str]] = {}
        named = zip(table.header, row, strict=True)
        for column, value in list(named)[table.num_fixed :]:
            owners.setdefault(value, []).append(column)
        yield from (f"      {value}  [{' '.join(columns)}]" for value, columns in owners.items())


def _markdown_list(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {plain_markdown(line)}" for line in lines)] if lines else []


def _markdown_table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(table.header)} |"
    yield f"|{'---|' * len(table.header)}"
    for row in table.rows:
        yield f"| {' | '.join(map(_code, row))} |"


def _code(cell: str) -> str:
    """Return a cell as inline code, which neither a backtick nor a bar can end."""
    if cell == "":
        return ""
    fence = "``" if "`" in cell else "`"
    text = cell.replace("|", "\\|").replace("\n", " ")
    return f"{fence} {text} {fence}" if "`" in cell else f"{fence}{text}{fence}"


def _html_section(section: Section) -> Iterator[str]:
    if section.title:
        yield f"<h2>{html.escape(section.title)}</h2>"
    yield from (f"<p>{html.escape(line)}</p>" for line in section.lines)
    if section.table is not None and section.table.rows:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.table.header)
        yield f"<div><table>\n<thead><tr>{head}</tr></thead>\n<tbody>"
        for row in section.table.rows:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            yield f"<tr>{cells}</tr>"
        yield "</tbody>\n</table></div>"
    yield from (f"<p>{html.escape(line)}</p>" for line in section.notes)
