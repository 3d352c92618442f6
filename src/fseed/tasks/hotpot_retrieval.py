"""HotpotQA as retrieval: which of all contexts of the split belongs to this question?

The backbone is frozen. It reads a question and a context apart, each with Future-Seed where the arm
has it; the mean of the final hidden vectors, under a learned projection, is the embedding
(``models/retrieval.py``). Training: InfoNCE within the batch. Scoring: every question against the
contexts of the whole split.

Worked example (invented), the only order; the two texts that are embedded::

    Context:
    Bako:
    Lives in Tan. Trusts Rilu.
    Rilu:
    Lives in Kor. Trusts Bako.

    Where does the one Bako trusts live?

With the right context third of 100 by cosine: rank 3, recall_at_1 0, recall_at_5 1, mrr_at_10 1/3.
A tie counts against the right context.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fseed.tasks import hotpot
from fseed.tasks.base import Build, Example, Objective, Row, ScoreRow
from fseed.tasks.metrics import Metric, Pooled, pooled, ratio


def build_example(row: Row, build: Build) -> Example:
    """Return context (the prompt) and question (the answer) of a row; raises ``RowProblem``."""
    example = hotpot.build_example(row, build)
    (question,) = example.sections["question"].paragraphs[0].sentences
    return replace(
        example, sections={"context": example.sections["context"]}, answers=(question,), cue=""
    )


def recall_at(depth: int) -> Metric:
    """Return the fraction of questions whose own context is among the nearest ``depth``."""
    return _of_rank(
        f"Fraction of questions whose context is among the nearest {depth} of the split.",
        lambda rank: float(rank <= depth),
    )


def reciprocal_rank_at(depth: int) -> Metric:
    """Return the mean of 1 / rank, 0 beyond ``depth``."""
    return _of_rank(
        f"Mean of 1 / rank of a question's context, 0 beyond rank {depth}.",
        lambda rank: 1 / rank if rank <= depth else 0.0,
    )


def _of_rank(sentence: str, value: Callable[[float], float]) -> Metric:
    def items(rows: Sequence[ScoreRow]) -> list[tuple[float, float] | None]:
        return [(value(row["rank"]), 1) for row in rows]

    def pool(rows: Sequence[ScoreRow]) -> Pooled | None:
        scores = [value(row["rank"]) for row in rows]
        return Pooled(sum(scores) / len(scores), len(scores)) if scores else None

    return pooled(sentence, pool, items=items)


HOTPOT_RETRIEVAL = replace(
    hotpot.HOTPOT,
    name="hotpot_retrieval",
    summary="Find the context of a multi-hop question among all of the split; frozen backbone.",
    objective=Objective.retrieval,
    orders={"plain": ("context",)},
    order_aliases={},
    metrics={
        "recall_at_1": recall_at(1),
        "recall_at_5": recall_at(5),
        "mrr_at_10": reciprocal_rank_at(10),
        "loss": ratio(
            "Mean negative log-likelihood of the right context among all of the split, in nats.",
            "loss_sum",
            "num_tokens",
        ),
    },
    build_example=build_example,
    score_generation=None,
    generation_columns=(),
)
