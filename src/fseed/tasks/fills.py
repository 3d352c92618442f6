"""In-place fills: masked characters that follow from what stands to their right.

Worked example of ``constr`` with 4 digits (the real ones have 16)::

    P=5506|M=____|R=17        the four masked positions predict 6171

``fill_patterns`` has the layouts and rules of ``rightcopy``, ``constr``, ``kvsort`` and
``permfill``. Every character is one token. The model predicts each masked character at its own
position, from its own hidden vector, all at once: a causal model without Future-Seed has not read
the right part there and can only guess.

The copy baseline puts the left part (L or P) or the unsorted keys into the masked positions.

Splits share no text: a hash of the text decides its split, and within a split no text repeats.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from fseed.tasks.base import (
    MASK,
    Build,
    DataSet,
    Example,
    Objective,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    ScoreRow,
    Section,
    Setting,
    Task,
    same_names,
)
from fseed.tasks.fill_patterns import (
    KEYS,
    Solve,
    draw_constr,
    draw_rightcopy,
    draw_sorted_keys,
    solve_constr,
    solve_rightcopy,
    solve_sorted_keys,
)
from fseed.tasks.generated_splits import split_of
from fseed.tasks.metrics import Metric, Pooled, pooled, ratio
from fseed.tasks.sources import SPLITS

MINI_VERSION = 1

COLUMNS = {"id": "string", "text": "string", "answer": "string"}


class Size(NamedTuple):
    """How many cells stand behind ``M=`` and how many of them are visible."""

    num_cells: int
    num_visible: int


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One fill: its name and number (part of the random key), and how texts are made and read."""

    name: str
    number: int
    summary: str
    options: type
    sizes: Callable[[Setting], tuple[Size, ...]]  # taken in turn by the generated rows
    draw: Callable[[np.random.Generator, Size], str]
    solve: Solve


@dataclass(frozen=True)
class DigitOptions:
    """Digits in the left and in the masked part."""

    num_digits: int = 16

    def __post_init__(self) -> None:
        """Raise ``ValueError`` out of range; fewer than 8 digits leave too few texts."""
        _check_range("num_digits", self.num_digits, 8, 1024)


@dataclass(frozen=True)
class KvsortOptions:
    """Keys to be sorted, of 36."""

    num_keys: int = 20

    def __post_init__(self) -> None:
        """Raise ``ValueError`` out of range."""
        _check_range("num_keys", self.num_keys, 2, len(KEYS))


@dataclass(frozen=True)
class PermfillOptions:
    """Keys to be sorted in train and in turn in the other splits, and how many are visible."""

    num_keys: int = 24
    num_keys_evaluated: tuple[int, ...] = (24, 28, 32, 36)
    num_anchors: int = 0

    def __post_init__(self) -> None:
        """Raise ``ValueError`` out of range."""
        _check_range("num_keys", self.num_keys, 2, len(KEYS))
        if not self.num_keys_evaluated:
            raise ValueError("num_keys_evaluated=[]: must be at least one number")
        for number in self.num_keys_evaluated:
            _check_range("num_keys_evaluated", number, 2, len(KEYS))
        fewest = min(self.num_keys, *self.num_keys_evaluated)
        _check_range("num_anchors", self.num_anchors, 0, fewest - 1)


def read_key(row: Row, *, pattern: Pattern) -> RowKey:
    """Return id and text of a row; raises ``RowProblem`` when the answer breaks the rule."""
    if not row["id"]:
        raise RowProblem("empty id")
    text = row["text"] or ""
    if pattern.solve(text).answer != row["answer"]:
        raise RowProblem("answer that contradicts the rule")
    return RowKey(row_id=row["id"], groups=frozenset({text}))


def build_example(row: Row, build: Build, *, pattern: Pattern) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    text = row["text"]
    cells = text.partition("M=")[2].partition("|")[0]
    size = Size(num_cells=len(cells), num_visible=len(cells) - cells.count(MASK))
    if size not in pattern.sizes(build.setting):
        raise RowProblem("other numbers of cells or of visible cells than the options")
    return Example(
        example_id=row["id"],
        kind=f"n{size.num_cells}",
        sections={"sequence": Section(None, (Paragraph(None, (text,)),))},
        answers=(row["answer"],),
        cue="",
        prompt_by_character=True,
        copied=pattern.solve(text).copied,
    )


def generate_rows(setting: Setting, *, pattern: Pattern) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split without end; none repeats a text.

    Asking for more rows never changes the first ones.
    """
    key = [MINI_VERSION, pattern.number, setting.seed, SPLITS.index(setting.split)]
    sizes = pattern.sizes(setting)
    seen: set[str] = set()
    for index in count():
        rng = np.random.default_rng([*key, index])
        size = sizes[index % len(sizes)]
        text = pattern.draw(rng, size)
        while split_of(text) != setting.split or text in seen:
            text = pattern.draw(rng, size)
        seen.add(text)
        yield {
            "id": f"mini{MINI_VERSION}-{setting.seed}-{setting.split}-{index}",
            "text": text,
            "answer": pattern.solve(text).answer,
        }


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value}: must be between {least} and {most}")


def _digit_sizes(setting: Setting) -> tuple[Size, ...]:
    return (Size(setting.options.num_digits, 0),)


def _kvsort_sizes(setting: Setting) -> tuple[Size, ...]:
    return (Size(setting.options.num_keys, 0),)


def _permfill_sizes(setting: Setting) -> tuple[Size, ...]:
    options = setting.options
    numbers = (options.num_keys,) if setting.split == "train" else options.num_keys_evaluated
    return tuple(Size(number, options.num_anchors) for number in numbers)


def _draw_rightcopy(rng: np.random.Generator, size: Size) -> str:
    return draw_rightcopy(rng, num_digits=size.num_cells)


def _draw_constr(rng: np.random.Generator, size: Size) -> str:
    return draw_constr(rng, num_digits=size.num_cells)


def _draw_sorted_keys(rng: np.random.Generator, size: Size) -> str:
    return draw_sorted_keys(rng, num_keys=size.num_cells, num_anchors=size.num_visible)


def _exact_items(rows: Sequence[ScoreRow]) -> list[tuple[float, float] | None]:
    return [(float(row["num_correct"] == row["num_units"]), 1.0) for row in rows]


def _pool_exact(rows: Sequence[ScoreRow]) -> Pooled | None:
    scores = [score for score, _ in filter(None, _exact_items(rows))]
    return Pooled(sum(scores) / len(scores), len(scores)) if scores else None


METRICS: dict[str, Metric] = {
    "masked_accuracy": ratio("Fraction of masked positions predicted.", "num_correct", "num_units"),
    "exact": pooled(
        "Fraction of examples with every masked position right.", _pool_exact, items=_exact_items
    ),
    "loss": ratio(
        "Mean negative log-likelihood of the masked characters, in nats.", "loss_sum", "num_tokens"
    ),
}

PATTERNS = (
    Pattern(
        name="rightcopy",
        number=0,
        summary="Masked digits that equal those to their right.",
        options=DigitOptions,
        sizes=_digit_sizes,
        draw=_draw_rightcopy,
        solve=solve_rightcopy,
    ),
    Pattern(
        name="constr",
        number=1,
        summary="Masked digits that go on from the left by a rule to their right.",
        options=DigitOptions,
        sizes=_digit_sizes,
        draw=_draw_constr,
        solve=solve_constr,
    ),
    Pattern(
        name="kvsort",
        number=2,
        summary="Keys in the order that a string to their right gives.",
        options=KvsortOptions,
        sizes=_kvsort_sizes,
        draw=_draw_sorted_keys,
        solve=solve_sorted_keys,
    ),
    Pattern(
        name="permfill",
        number=3,
        summary="Sorted keys as in kvsort, some of them visible, more of them when evaluated.",
        options=PermfillOptions,
        sizes=_permfill_sizes,
        draw=_draw_sorted_keys,
        solve=solve_sorted_keys,
    ),
)


def _make_task(pattern: Pattern) -> Task:
    rows = DataSet(
        folder=pattern.name,
        hub_id=None,
        columns=COLUMNS,
        key_columns=tuple(COLUMNS),
        files=same_names(*SPLITS),
        hub_splits={},
    )
    return Task(
        name=pattern.name,
        summary=pattern.summary,
        datasets={"generated": rows},
        orders={"plain": ("sequence",)},
        order_aliases={},
        metrics=METRICS,
        mini_version=MINI_VERSION,
        objective=Objective.fill,
        options=pattern.options,
        read_key=partial(read_key, pattern=pattern),
        build_example=partial(build_example, pattern=pattern),
        generate_mini=partial(generate_rows, pattern=pattern),
        shared="shared text",
    )


RIGHTCOPY, CONSTR, KVSORT, PERMFILL = (_make_task(pattern) for pattern in PATTERNS)
