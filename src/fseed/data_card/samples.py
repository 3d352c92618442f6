"""Examples as people read them: decoded, shortened, with the scored units marked."""

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from fseed.data_card.blocks import Sample, Span
from fseed.tasks.base import EncodedExample, Objective, Tokenizer

NUM_SAMPLES = 3
MAX_CHARACTERS = 1200  # of a prompt; what is longer loses its middle


def render_samples(
    examples: Sequence[EncodedExample], *, objective: Objective, tokenizer: Tokenizer
) -> list[Sample]:
    """Return the first examples of different kinds, then the first ones of all."""
    return [
        render_sample(example, objective=objective, tokenizer=tokenizer)
        for example in _choose(examples)
    ]


def render_sample(example: EncodedExample, *, objective: Objective, tokenizer: Tokenizer) -> Sample:
    """Return prompt and answer of one example; marked are masked positions and scored units."""
    gold = example.answer_ids[: example.num_answer_tokens]
    parts = {
        Objective.answer: ("prompt", "answer"),
        Objective.fill: ("prompt, masked positions marked", "what stands there"),
        Objective.retrieval: ("context", "question"),
    }[objective]
    prompt = _to_spans(example.prompt_ids, set(example.mask_positions), tokenizer)
    answer = _to_spans(gold, set(example.units), tokenizer)
    return Sample(
        title=f"{visible(example.example_id)} ({visible(example.kind)})",
        parts=[(parts[0], shorten(prompt)), (parts[1], shorten(answer))],
    )


def shorten(spans: Sequence[Span], *, max_characters: int = MAX_CHARACTERS) -> list[Span]:
    """Leave out the middle of a long text and say how much."""
    total = sum(len(span.text) for span in spans)
    if total <= max_characters:
        return list(spans)
    head = max_characters // 2
    tail = max_characters - head
    gap = Span(f"\n[... {total - max_characters:,} characters left out ...]\n")
    return [*_slice(spans, 0, head), gap, *_slice(spans, total - tail, total)]


def visible(text: str) -> str:
    """Return ``text`` with a picture in place of every control character but line end and tab.

    Text of a data set must not move the cursor of a terminal, hide itself or break a file.
    """
    return "".join(_show(character) for character in text)


def _show(character: str) -> str:
    if character in "\n\t":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures
    # delete, the second range of controls, half letters, marks that turn the direction of text
    is_hidden = unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(
        character
    ) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return "\ufffd" if is_hidden else character


def _choose(examples: Sequence[EncodedExample]) -> list[EncodedExample]:
    """Return up to ``NUM_SAMPLES`` examples, as many kinds as possible among them."""
    firsts: dict[str, EncodedExample] = {}
    for example in examples:
        firsts.setdefault(example.kind, example)
    chosen = list(firsts.values())[:NUM_SAMPLES]
    others = (example for example in examples if example not in chosen)
    while len(chosen) < NUM_SAMPLES and (example := next(others, None)) is not None:
        chosen.append(example)
    return chosen


def _to_spans(ids: Sequence[int], marked: Collection[int], tokenizer: Tokenizer) -> list[Span]:
    """Decode runs of marked and of other tokens."""
    runs = groupby(enumerate(ids), key=lambda item: item[0] in marked)
    return [
        Span(visible(tokenizer.decode([token for _, token in run])), is_marked)
        for is_marked, run in runs
    ]


def _slice(spans: Sequence[Span], start: int, stop: int) -> Iterator[Span]:
    """Yield the part of the spans between two characters."""
    place = 0
    for span in spans:
        text = span.text[max(0, start - place) : max(0, stop - place)]
        place += len(span.text)
        if text:
            yield Span(text, span.is_marked)
