"""What a run is about to read: how many rows are usable, why others are not, how long they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fseed.tasks.base import EncodedExample
from fseed.tasks.splits import Pool

PERCENTILES = {"min": 0, "p05": 5, "p50": 50, "p95": 95, "max": 100}


@dataclass(frozen=True)
class SplitReport:
    """Counts and lengths of one split.

    ``num_rows`` stored rows are either dropped, overlapping, or usable; ``num_examples`` of the
    usable ones are used. Only rows that were tried (until the wanted number was reached) can show
    up under a reason that needs the tokenizer. Lengths are tokens; the prompt has no answer, the
    answer no end of text.
    """

    num_rows: int
    num_examples: int
    dropped: dict[str, int]
    overlap: dict[str, int]
    num_cut: int
    num_lost_gold: int
    num_bare: int
    kinds: dict[str, int]
    prompt_tokens: dict[str, float]
    answer_tokens: dict[str, float]


@dataclass(frozen=True)
class Preflight:
    """The report of one task on one source, as plain data."""

    task: str
    source: str
    order: str
    splits: dict[str, SplitReport]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as nested dicts of plain values."""
        return asdict(self)


def report_split(
    pool: Pool, examples: Sequence[EncodedExample], rejected: Counter[str]
) -> SplitReport:
    """Return the report of one split; ``rejected`` are rows that could not be encoded."""
    return SplitReport(
        num_rows=pool.num_rows,
        num_examples=len(examples),
        dropped=dict(sorted((pool.dropped + rejected).items())),
        overlap=dict(sorted(pool.overlap.items())),
        num_cut=sum(example.is_cut for example in examples),
        num_lost_gold=sum(example.lost_gold for example in examples),
        num_bare=sum(example.is_bare for example in examples),
        kinds=dict(sorted(Counter(example.kind for example in examples).items())),
        prompt_tokens=_percentiles([len(example.prompt_ids) for example in examples]),
        answer_tokens=_percentiles([example.num_answer_tokens for example in examples]),
    )


def render(preflight: Preflight) -> str:
    """Return the report as readable lines, one block per split."""
    lines = [f"{preflight.task}, {preflight.source} data, {preflight.order}"]
    for name, split in preflight.splits.items():
        lines += [f"  {line}" for line in _render_split(name, split)]
    return "\n".join(lines)


def describe_counts(counts: dict[str, int]) -> str:
    """Return ``2 repeated id, 1 empty answer``, or ``none``."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"


def _render_split(name: str, split: SplitReport) -> list[str]:
    """Return the lines of one split."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in split.kinds.items())
    lines = [
        f"{name}: {split.num_examples} examples ({kinds}) of {split.num_rows} rows",
        f"  dropped: {describe_counts(split.dropped)}; "
        f"overlap with a held-out split: {describe_counts(split.overlap)}",
        f"  prompt tokens: {_render_percentiles(split.prompt_tokens)}",
        f"  answer tokens: {_render_percentiles(split.answer_tokens)}",
    ]
    if split.num_cut:
        lines.append(
            f"  evidence cut in {split.num_cut} examples; "
            f"{split.num_lost_gold} of them lost a supporting sentence"
        )
    if split.num_bare:
        lines.append(f"  notes or evidence cut away entirely in {split.num_bare} examples")
    return lines


def _percentiles(lengths: Sequence[int]) -> dict[str, float]:
    """Return the percentiles of ``lengths`` by name; empty without lengths."""
    if not lengths:
        return {}
    values = np.percentile(lengths, list(PERCENTILES.values()))
    return dict(zip(PERCENTILES, (float(value) for value in values), strict=True))


def _render_percentiles(values: dict[str, float]) -> str:
    """Return ``min 10, p05 12, ...``."""
    return ", ".join(f"{name} {value:.0f}" for name, value in values.items()) or "none"
