"""Find the sentences of a running text, well enough to cut it between them.

A sentence ends behind a full stop, question or exclamation mark (and closing quotes or brackets
right behind it) when white space and then, perhaps behind an opening quote or bracket, a digit or
any letter but a to z follow. A single capital before the full stop is an initial and ends nothing.
Abbreviations such as ``Dr.`` do end a sentence here: parts that stay together read the same.
"""

import re

_END = re.compile(
    r"""
    (?<!\b[A-Z])            # no initial
    [.!?]+ ["'”’)\]]*       # marks, and what closes behind them
    (?= \s+ ["'“‘(\[]? [^\W_a-z] )
    """,
    re.VERBOSE,
)


def find_sentences(text: str) -> list[tuple[int, int]]:
    """Return start and end of every sentence of ``text``; white space between them is in none."""
    ends = [match.end() for match in _END.finditer(text)]
    spans = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        sentence = text[start:end]
        if sentence.strip():
            left = start + len(sentence) - len(sentence.lstrip())
            spans.append((left, left + len(sentence.strip())))
    return spans


def split_sentences(text: str) -> list[str]:
    """Return the sentences of ``text``, each with single spaces."""
    return [" ".join(text[start:end].split()) for start, end in find_sentences(text)]
