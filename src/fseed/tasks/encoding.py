"""Turn an example into token ids within the length limits of the task."""

from collections.abc import Sequence

from fseed.tasks.base import EncodedExample, Example, RowProblem, Tokenizer
from fseed.tasks.sections import fit_prompt, num_ranked


def encode_example(
    example: Example,
    order: Sequence[str],
    *,
    tokenizer: Tokenizer,
    max_length_tokens: int,
    max_answer_tokens: int,
) -> EncodedExample:
    """Encode prompt and answer apart, cutting evidence until both fit.

    ``max_answer_tokens`` bounds the answer without end of text; ``max_length_tokens`` bounds prompt
    plus answer with end of text. Raises ``RowProblem`` for an answer or a prompt that cannot fit.
    """
    answer_ids = tokenizer.encode(" " + example.answers[0])
    if len(answer_ids) > max_answer_tokens:
        raise RowProblem(f"answer longer than {max_answer_tokens} tokens")
    answer_ids = [*answer_ids, tokenizer.end_of_text]
    text, prompt_ids, num_kept = fit_prompt(
        example,
        order,
        tokenizer=tokenizer,
        max_prompt_tokens=max_length_tokens - len(answer_ids),
    )
    return EncodedExample(
        example_id=example.example_id,
        kind=example.kind,
        prompt_ids=prompt_ids,
        answer_ids=answer_ids,
        answers=example.answers,
        prompt_text=text,
        is_cut=num_kept < num_ranked(example),
        lost_gold=num_kept < example.num_essential,
    )
