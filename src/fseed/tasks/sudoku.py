"""Sudoku of 4x4 and 9x9 cells: the clues of a board in, the whole board out.

Worked example of ``sudoku4``, order ``prefix``, 8 blanks::

    SUDOKU4|P=0000000021434321|A=1234341221434321<end of text>

Cells stand in row-major order, 0 for a blank, and every character is one token, in the prompt as
well. The order names the blank region: ``prefix`` (the first cells, which are answered before any
clue is repeated), ``suffix`` (the last, answered after all clues) or ``random``. The blank cells
are the units; clues have to be repeated, but do not count.

Without ``unique`` a puzzle may have several solutions. Blank cells and ``exact`` then compare with
the one that was drawn and cannot all be right; ``solved`` accepts any solution.

Splits share no solution. Test and validation have a quarter of the boards each; what decides is a
hash of the clues (prefix, suffix: so no two splits share a prompt either) or of the grid (random).
There are only 288 grids of 4x4, and with ``prefix`` or ``suffix`` of 8 only 96 prompts, so that
rows of ``sudoku4`` repeat within a split; the rows are draws from these with replacement.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from fseed.config.schema import MbppConfig
from fseed.errors import UserError
from fseed.tasks.base import (
    Build,
    DataSet,
    EncodedExample,
    Example,
    Form,
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
from fseed.tasks.generated_splits import split_of
from fseed.tasks.metrics import END_OF_TEXT_ACCURACY, LOSS, TOKEN_ACCURACY, mean, ratio
from fseed.tasks.sources import SPLITS
from fseed.tasks.sudoku_boards import (
    REGIONS,
    Board,
    blank_cells,
    check_blanks,
    draw_puzzle,
    fixed_region,
    format_board,
    has_unique_solution,
    is_solved,
    keeps_clues,
    parse_board,
    random_grid,
)

MINI_VERSION = 1

COLUMNS = {"id": "string", "puzzle": "string", "solution": "string"}


@dataclass(frozen=True)
class Sudoku4Options:
    """Blank cells of 16, and whether a puzzle has one solution (order ``random`` alone)."""

    num_blanks: int = 8
    unique: bool = False

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a number of blanks that cannot be made."""
        check_blanks(2, num_blanks=self.num_blanks, unique=self.unique)


@dataclass(frozen=True)
class Sudoku9Options:
    """Blank cells of 81, and whether a puzzle has one solution (order ``random`` alone)."""

    num_blanks: int = 40
    unique: bool = False

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a number of blanks that cannot be made."""
        check_blanks(3, num_blanks=self.num_blanks, unique=self.unique)


def read_key(row: Row, *, base: int) -> RowKey:
    """Return id and solution of a row; raises ``RowProblem`` for a puzzle that is none."""
    if not row["id"]:
        raise RowProblem("empty id")
    puzzle = parse_board(row["puzzle"] or "", base=base)
    solution = parse_board(row["solution"] or "", base=base)
    if not is_solved(solution):
        raise RowProblem("solution that is no solved board")
    if not keeps_clues(solution, puzzle):
        raise RowProblem("clue that contradicts the solution")
    return RowKey(row_id=row["id"], groups=frozenset({format_board(solution)}))


def build_example(row: Row, build: Build, *, base: int) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``.

    The blanks of the row must be those that order and options ask for.
    """
    puzzle = parse_board(row["puzzle"], base=base)
    blanks = tuple(cell for cell, digit in enumerate(puzzle) if digit == 0)
    _check_blanks(puzzle, blanks, build.setting, base=base)
    text = f"SUDOKU{base**2}|P={row['puzzle']}|A="
    return Example(
        example_id=row["id"],
        kind=f"sudoku{base**2}",
        sections={"puzzle": Section(None, (Paragraph(None, (text,)),))},
        answers=(row["solution"],),
        cue="",
        form=Form.characters,
        prompt_by_character=True,
        units=blanks,
        copied=row["puzzle"],
        reference=json.dumps({"puzzle": row["puzzle"]}),
    )


def _check_blanks(puzzle: Board, blanks: Sequence[int], setting: Setting, *, base: int) -> None:
    """Raise ``RowProblem`` for blanks that the order or the options do not ask for."""
    wanted = setting.options.num_blanks
    if len(blanks) != wanted:
        raise RowProblem(f"number of blanks that is not {wanted}")
    if setting.order != "random" and list(blanks) != _fixed_blanks(setting, base=base):
        raise RowProblem(f"blanks that are no {setting.order}")
    if setting.options.unique and not has_unique_solution(puzzle):
        raise RowProblem("several solutions")


def generate_rows(setting: Setting, *, base: int) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split without end; raises ``UserError`` at once.

    Row ``i`` depends on the version, the setting and ``i`` alone.
    """
    if setting.options.unique and setting.order != "random":
        raise UserError(
            f"task.options.unique=true: only with task.order=random, not {setting.order}; "
            "two blank rows of a band can be exchanged in every solution.\n"
            "Give task.order=random or task.options.unique=false."
        )
    return (_draw_row(setting, index, base=base) for index in count())


def score_boards(
    examples: Sequence[EncodedExample], texts: Sequence[Sequence[str]], scoring: MbppConfig
) -> list[ScoreRow]:
    """Return ``solved`` and ``exact`` of the greedy answer to each example."""
    return [
        {**score_board(found[0], example.answers[0], json.loads(example.reference)["puzzle"])}
        for example, found in zip(examples, texts, strict=True)
    ]


def score_board(text: str, solution: str, puzzle: str) -> dict[str, float]:
    """Return whether ``text`` solves ``puzzle`` and whether it is ``solution``, as 0.0 or 1.0."""
    base = 2 if len(puzzle) == 16 else 3
    try:
        board = parse_board(text, base=base)
    except RowProblem:
        return {"solved": 0.0, "exact": 0.0}
    solved = is_solved(board) and keeps_clues(board, parse_board(puzzle, base=base))
    return {"solved": float(solved), "exact": float(text == solution)}


def _draw_row(setting: Setting, index: int, *, base: int) -> dict[str, Any]:
    key = [MINI_VERSION, base, setting.seed, SPLITS.index(setting.split), index]
    rng = np.random.default_rng(key)
    grid = random_grid(base, rng)
    while split_of(_decisive_cells(grid, setting, base=base)) != setting.split:
        grid = random_grid(base, rng)
    puzzle = draw_puzzle(
        grid,
        region=setting.order,
        num_blanks=setting.options.num_blanks,
        unique=setting.options.unique,
        rng=rng,
    )
    return {
        "id": f"mini{MINI_VERSION}-{setting.seed}-{setting.split}-{index}",
        "puzzle": format_board(puzzle),
        "solution": format_board(grid),
    }


def _decisive_cells(grid: Board, setting: Setting, *, base: int) -> str:
    """Return what decides the split of a grid: its clues, or all of it when they are random."""
    if setting.order == "random":
        return format_board(grid)
    return format_board(blank_cells(grid, _fixed_blanks(setting, base=base)))


def _fixed_blanks(setting: Setting, *, base: int) -> list[int]:
    """Return the blank cells of the orders that leave no choice."""
    return fixed_region(base, region=setting.order, num_blanks=setting.options.num_blanks)


def _make_task(base: int, options: type) -> Task:
    side = base**2
    name = f"sudoku{side}"
    rows = DataSet(
        folder=name,
        hub_id=None,
        columns=COLUMNS,
        key_columns=tuple(COLUMNS),
        files=same_names(*SPLITS),
        hub_splits={},
    )
    return Task(
        name=name,
        summary=f"Sudoku of {side}x{side} cells, the whole board as the answer.",
        datasets={"generated": rows},
        orders=dict.fromkeys(REGIONS, ("puzzle",)),
        order_aliases={},
        metrics={
            "blank_accuracy": ratio(
                "Fraction of blank cells predicted under teacher forcing.",
                "num_correct",
                "num_units",
            ),
            "solved": mean(
                "Fraction of greedy answers that are a solution of the puzzle.",
                "solved",
                is_generated=True,
            ),
            "exact": mean(
                "Fraction of greedy answers that are the board the puzzle was made from.",
                "exact",
                is_generated=True,
            ),
            "token_accuracy": TOKEN_ACCURACY,
            "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
            "loss": LOSS,
        },
        mini_version=MINI_VERSION,
        options=options,
        read_key=partial(read_key, base=base),
        build_example=partial(build_example, base=base),
        generate_mini=partial(generate_rows, base=base),
        shared="shared solution",
        score_generation=score_boards,
        generation_columns=("solved", "exact"),
    )


SUDOKU4 = _make_task(2, Sudoku4Options)
SUDOKU9 = _make_task(3, Sudoku9Options)
