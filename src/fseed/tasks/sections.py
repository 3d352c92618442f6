"""Render sections to a prompt and cut the evidence of one that is too long.

Layout: each heading on its own line, a blank line between sections, and the cue (``Answer:``) last.
The answer is tokenised on its own, see ``base.Form``. Only sentences that a section ranks may
be cut; question, task statement, cue and answer always survive. What is kept is the longest prefix
of the ranking that fits, shown in document order, so a longer limit never shows less.
"""

from collections.abc import Sequence

from fseed.tasks.base import Example, Form, Paragraph, RowProblem, Section, Tokenizer

# these answers begin on a line of their own
_ON_NEW_LINE = (Form.code, Form.characters)


def render_prompt(example: Example, order: Sequence[str], *, num_kept: int | None = None) -> str:
    """Return the prompt with the sections in ``order`` and the cue.

    ``num_kept`` is the number of ranked sentences to show; ``None`` shows all.
    """
    bodies = [_render_section(example.sections[name], num_kept) for name in order]
    if not example.cue:
        return "\n\n".join(bodies)
    end = "\n" if example.form in _ON_NEW_LINE else ""
    return "\n\n".join([*bodies, example.cue]) + end


def encode_prompt(example: Example, text: str, *, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a rendered prompt, one a character where the example asks for it."""
    return (
        encode_characters(text, tokenizer)
        if example.prompt_by_character
        else tokenizer.encode(text)
    )


def encode_characters(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return one token a character; ValueError for a character that has no token of its own."""
    ids = [tokenizer.encode(character) for character in text]
    if any(len(pieces) != 1 for pieces in ids):
        raise ValueError(f"{text!r:.60}: every character must be one token of the vocabulary")
    return [pieces[0] for pieces in ids]


def num_ranked(example: Example) -> int:
    """Return how many sentences of the example may be cut; at most one section ranks any."""
    rankings = [section.ranking for section in example.sections.values() if section.ranking]
    if len(rankings) > 1:
        raise ValueError(f"example {example.example_id}: more than one section can be cut")
    return len(rankings[0]) if rankings else 0


def fit_prompt(
    example: Example, order: Sequence[str], *, tokenizer: Tokenizer, max_prompt_tokens: int
) -> tuple[str, list[int], int]:
    """Return the longest allowed prompt, its tokens, and the number of ranked sentences in it.

    Raises ``RowProblem`` when the prompt does not fit with any evidence left.
    """
    total = num_ranked(example)
    text = render_prompt(example, order)
    ids = encode_prompt(example, text, tokenizer=tokenizer)
    if len(ids) <= max_prompt_tokens:
        return text, ids, total
    best = _search_num_kept(example, order, tokenizer, max_prompt_tokens)
    if best is None:
        raise RowProblem("prompt does not fit even with the evidence cut")
    return best


def _search_num_kept(
    example: Example, order: Sequence[str], tokenizer: Tokenizer, limit: int
) -> tuple[str, list[int], int] | None:
    """Walk from an estimate to the largest number of sentences that fits; None when none does."""
    fewest = 1 if example.num_essential else 0
    most = num_ranked(example) - 1
    num_kept = min(max(_estimate_num_kept(example, order, tokenizer, limit), fewest), most)
    best = None
    while num_kept >= fewest and best is None:
        best = _encode_if_fits(example, order, tokenizer, limit, num_kept)
        num_kept -= 1
    # the estimate adds up pieces, and a whole text can be a few tokens shorter than its pieces
    longer = best
    while longer is not None and longer[2] < most:
        best = longer
        longer = _encode_if_fits(example, order, tokenizer, limit, longer[2] + 1)
    return longer if longer is not None else best


def _encode_if_fits(
    example: Example, order: Sequence[str], tokenizer: Tokenizer, limit: int, num_kept: int
) -> tuple[str, list[int], int] | None:
    """Return text, tokens and ``num_kept`` when the prompt has at most ``limit`` tokens."""
    text = render_prompt(example, order, num_kept=num_kept)
    ids = encode_prompt(example, text, tokenizer=tokenizer)
    return (text, ids, num_kept) if len(ids) <= limit else None


def _estimate_num_kept(
    example: Example, order: Sequence[str], tokenizer: Tokenizer, limit: int
) -> int:
    """Return how many ranked sentences fit when every piece is tokenised on its own."""
    length = len(tokenizer.encode(render_prompt(example, order, num_kept=0)))
    num_kept = 0
    for name in order:
        section = example.sections[name]
        titled: set[int] = set()
        for paragraph, sentence in section.ranking or ():
            source = section.paragraphs[paragraph]
            length += len(tokenizer.encode(" " + source.sentences[sentence]))
            if paragraph not in titled and source.title is not None:
                length += len(tokenizer.encode(f"{source.title}:\n\n"))
            titled.add(paragraph)
            if length > limit:
                return num_kept
            num_kept += 1
    return num_kept


def _render_section(section: Section, num_kept: int | None) -> str:
    """Return heading and paragraphs; a paragraph with every sentence cut is left out."""
    kept = None if section.ranking is None else set(section.ranking[:num_kept])
    lines = [] if section.heading is None else [f"{section.heading}:"]
    for index, paragraph in enumerate(section.paragraphs):
        text = _render_paragraph(paragraph, index, kept)
        if text:
            lines.append(text)
    return "\n".join(lines)


def _render_paragraph(paragraph: Paragraph, index: int, kept: set[tuple[int, int]] | None) -> str:
    """Return the title line and the kept sentences, or an empty string."""
    sentences = [
        text
        for number, text in enumerate(paragraph.sentences)
        if text and (kept is None or (index, number) in kept)
    ]
    if not sentences:
        return ""
    body = " ".join(sentences)
    return body if paragraph.title is None else f"{paragraph.title}:\n{body}"
