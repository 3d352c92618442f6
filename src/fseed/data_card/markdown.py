"""A data card as GitHub-flavoured Markdown; text of the data is escaped."""

import re
from collections.abc import Sequence
from html import escape

from fseed.data_card.blocks import Block, Card, Histogram, Sample, Table
from fseed.data_card.terminal import bars


def render_markdown(card: Card) -> str:
    """Return the card as Markdown; marked units are bold in examples."""
    parts = [f"# {_inline(card.heading)}", _inline(card.summary)]
    parts += [_render(block) for block in card.blocks]
    return "\n\n".join(parts) + "\n"


def _render(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Histogram):
        # no data in it, so a fence cannot be closed from inside
        return "\n".join([f"## {_inline(block.title)}", "", "```text", *bars(block), "```"])
    return _sample(block)


def _table(block: Table) -> str:
    sides = ["---:" if side == "r" else "---" for side in block.align]
    lines = [f"## {_inline(block.title)}", "", _row(block.header), f"|{'|'.join(sides)}|"]
    lines += [_row(row) for row in block.rows]
    return "\n".join([*lines, *(["", _inline(block.note)] if block.note else [])])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


def _sample(block: Sample) -> str:
    lines = [f"## Example {_inline(block.title)}"]
    for name, spans in block.parts:
        text = "".join(
            f"<b>{_preformatted(span.text)}</b>" if span.is_marked else _preformatted(span.text)
            for span in spans
        )
        lines += ["", f"{_inline(name)}:", "", f"<pre>{text}</pre>"]
    return "\n".join(lines)


def _preformatted(text: str) -> str:
    # a blank line would end the HTML block in some readers
    return escape(text).replace("\n", "&#10;")


def _inline(text: str) -> str:
    """Escape what Markdown or HTML would read as markup, in one line."""
    line = " ".join(escape(text, quote=False).splitlines())
    return re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", line)
