"""Turn an example into token ids within the length limits of the task."""

from collections.abc import Callable, Sequence

from fseed.tasks.base import (
    MASK,
    EncodedExample,
    Example,
    Form,
    Objective,
    RowProblem,
    Tokenizer,
)
from fseed.tasks.sections import encode_characters, fit_prompt, num_ranked, render_prompt


def encode_example(
    example: Example,
    order: Sequence[str],
    *,
    objective: Objective = Objective.answer,
    tokenizer: Tokenizer,
    max_length_tokens: int,
    max_answer_tokens: int,
) -> EncodedExample:
    """Encode prompt and answer apart, cutting evidence until both fit.

    ``max_answer_tokens`` bounds the answer without end of text (retrieval: the question);
    ``max_length_tokens`` bounds prompt plus answer with end of text (fill: the prompt, which holds
    the masked answer). Raises ``RowProblem`` for an answer or a prompt that cannot fit.
    """
    encoded = _ENCODERS[objective](
        example,
        order,
        tokenizer=tokenizer,
        max_length_tokens=max_length_tokens,
        max_answer_tokens=max_answer_tokens,
    )
    if encoded.label_ids and not _unit_ids(encoded) <= set(encoded.label_ids):
        raise RowProblem("answer outside the labels")
    return encoded


def _encode_answer(
    example: Example,
    order: Sequence[str],
    *,
    tokenizer: Tokenizer,
    max_length_tokens: int,
    max_answer_tokens: int,
) -> EncodedExample:
    gold = _encode_text(example.answers[0], example.form, tokenizer)
    _check_answer(gold, max_answer_tokens)
    answer_ids = [*gold, tokenizer.end_of_text]
    _, prompt_ids, num_kept = fit_prompt(
        example,
        order,
        tokenizer=tokenizer,
        max_prompt_tokens=max_length_tokens - len(answer_ids),
    )
    copied = example.copied
    return EncodedExample(
        example_id=example.example_id,
        kind=example.kind,
        prompt_ids=prompt_ids,
        answer_ids=answer_ids,
        answers=example.answers,
        is_cut=num_kept < num_ranked(example),
        lost_gold=num_kept < example.num_essential,
        is_bare=num_kept == 0 < num_ranked(example),
        units=_find_units(example, len(gold)),
        label_ids=_label_ids(example.labels, example.form, tokenizer),
        copied=copied,
        copied_ids=None
        if copied is None
        else _copied_ids(_encode_text(copied, example.form, tokenizer), answer_ids, tokenizer),
        reference=example.reference,
    )


def _encode_fill(
    example: Example,
    order: Sequence[str],
    *,
    tokenizer: Tokenizer,
    max_length_tokens: int,
    max_answer_tokens: int,
) -> EncodedExample:
    text = render_prompt(example, order)
    places = tuple(place for place, character in enumerate(text) if character == MASK)
    gold = example.answers[0]
    if len(places) != len(gold):
        raise ValueError(f"{example.example_id}: {len(places)} masked positions for {gold!r:.60}")
    _check_answer(gold, max_answer_tokens)
    if len(text) > max_length_tokens:
        raise RowProblem("prompt does not fit")
    copied = example.copied
    return EncodedExample(
        example_id=example.example_id,
        kind=example.kind,
        prompt_ids=encode_characters(text, tokenizer),
        answer_ids=encode_characters(gold, tokenizer),
        answers=example.answers,
        has_end=False,
        units=tuple(range(len(gold))),
        label_ids=_label_ids(example.labels, Form.characters, tokenizer),
        mask_positions=places,
        copied=copied,
        copied_ids=None if copied is None else tuple(encode_characters(copied, tokenizer)),
        reference=example.reference,
    )


def _encode_retrieval(
    example: Example,
    order: Sequence[str],
    *,
    tokenizer: Tokenizer,
    max_length_tokens: int,
    max_answer_tokens: int,
) -> EncodedExample:
    question = tokenizer.encode(example.answers[0])
    _check_answer(question, max_answer_tokens)
    _, prompt_ids, num_kept = fit_prompt(
        example, order, tokenizer=tokenizer, max_prompt_tokens=max_length_tokens
    )
    return EncodedExample(
        example_id=example.example_id,
        kind=example.kind,
        prompt_ids=prompt_ids,
        answer_ids=question,
        answers=example.answers,
        has_end=False,
        is_cut=num_kept < num_ranked(example),
        lost_gold=num_kept < example.num_essential,
    )


_ENCODERS: dict[Objective, Callable[..., EncodedExample]] = {
    Objective.answer: _encode_answer,
    Objective.fill: _encode_fill,
    Objective.retrieval: _encode_retrieval,
}


def _check_answer(answer: Sequence[object], limit: int) -> None:
    if len(answer) > limit:
        raise RowProblem(f"answer longer than {limit} tokens")
    if not answer:
        raise RowProblem("empty answer")


def _encode_text(text: str, form: Form, tokenizer: Tokenizer) -> list[int]:
    if form is Form.characters:
        return encode_characters(text, tokenizer)
    return tokenizer.encode(text if form is Form.code else f" {text}")


def _find_units(example: Example, num_tokens: int) -> tuple[int, ...]:
    if example.form is Form.label:
        return (num_tokens - 1,)
    if example.units is not None:
        return example.units
    return tuple(range(num_tokens))


def _unit_ids(encoded: EncodedExample) -> set[int]:
    """Return the gold tokens of the units."""
    return {encoded.answer_ids[place] for place in encoded.units}


def _label_ids(labels: Sequence[str], form: Form, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the token of each label; in form ``label`` all must begin alike (with the space)."""
    ids = [_encode_text(label, form, tokenizer) for label in labels]
    if len({tuple(pieces[:-1]) for pieces in ids}) > 1:
        raise ValueError(f"labels {tuple(labels)}: must differ in their last token alone")
    return tuple(pieces[-1] for pieces in ids)


def _copied_ids(copied: list[int], answer: list[int], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return what copying predicts at each answer position; end of text behind its own end."""
    padding = [tokenizer.end_of_text] * len(answer)
    return tuple([*copied, *padding][: len(answer)])
