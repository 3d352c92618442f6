"""Safe markup: text is escaped wherever it enters, so no name or message can become HTML."""

import html
import re
from collections.abc import Iterable
from functools import cache

from fseed.plain_text import plain_text

_HARMLESS = re.compile(r"[\w .,:;%+/()\[\]#=|*-]*", re.ASCII)
_VOID = frozenset({"meta", "br", "hr", "col"})
_SHAPES = frozenset({"line", "circle", "rect", "path", "polyline", "use"})

Attribute = str | int | float | None


class Html(str):
    """Markup that goes into the page as it is; only this module makes it from plain text."""

    __slots__ = ()


Child = Html | str | None


def clean_text(text: str) -> str:
    """Return the text with what a reader could not see spelt out, such as ``\\u202e``."""
    return plain_text(text)


def escape(text: str) -> Html:
    """Return plain text as markup that shows exactly this text; markup stays as it is."""
    # most texts hold nothing to escape, and a report holds a million of them
    if isinstance(text, Html):
        return text
    if _HARMLESS.fullmatch(text) is not None:
        return Html(text)
    return Html(html.escape(clean_text(text), quote=True))


def element(name: str, *children: Child, **attributes: Attribute) -> Html:
    """Return an element; plain children are escaped, None children and attributes left out.

    Attribute names lose a trailing underscore and write the others as hyphens: ``class_``,
    ``aria_label``. Floats are written with at most two decimals.
    """
    told = "".join(
        [
            f' {_attribute_name(key)}="{_value(value)}"'
            for key, value in attributes.items()
            if value is not None
        ]
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    inner = "".join([escape(child) for child in children if child is not None])
    if name in _SHAPES and not inner:
        return Html(f"<{name}{told}/>")
    return Html(f"<{name}{told}>{inner}</{name}>")


def join(parts: Iterable[Child], separator: str = "") -> Html:
    """Return the parts as one piece of markup, plain ones escaped."""
    return Html(escape(separator).join(escape(part) for part in parts if part is not None))


def number(value: float) -> str:
    """Return a coordinate with at most two decimals and no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@cache
def _attribute_name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | int | float) -> str:
    if isinstance(value, float):
        return number(value)
    return str(value) if isinstance(value, int) else escape(value)
