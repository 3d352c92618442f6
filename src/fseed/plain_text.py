"""Text of strangers made visible: what a terminal, a page or Markdown would act on is spelt out."""

import re

# what hides, reorders or commands: control characters, directional marks, half letters
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\uffff]"
)
# the start of a tag, and where a link text meets its target; "<0.001" stays as it is
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(\[])")
_MARKUP_AS_TEXT = {"<": "&lt;", "]": "\\]"}


def plain_text(text: str) -> str:
    """Return the text with what a reader could not see spelt out, such as ``\\u001b``.

    Tabs and line breaks stay.
    """
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain_markdown(text: str) -> str:
    """Return one line of Markdown in which neither HTML tags nor links nor pictures begin.

    >>> plain_markdown("[a](http://b) <img>, p <0.001")
    '[a\\\\](http://b) &lt;img>, p <0.001'
    """
    return _MARKUP.sub(lambda found: _MARKUP_AS_TEXT[found[0]], plain_text(text))
