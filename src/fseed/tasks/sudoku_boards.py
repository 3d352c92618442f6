"""Sudoku boards of 4x4 and 9x9 cells: drawing, blanking, solving and judging them.

A board is a flat tuple of its cells in row-major order, with 0 for a blank. ``base`` is the side of
a box: 2 for 4x4, 3 for 9x9. Worked example of base 2::

    grid       1234 3412 2143 4321
    prefix 8   0000 0000 2143 4321   the first 8 cells are blank
    suffix 8   1234 3412 0000 0000   the last 8
    random 8   1030 0402 0143 0001   any 8

A puzzle has one solution, or several. With ``prefix`` and ``suffix`` of at least two rows it always
has several: two blank rows of one band of boxes can be exchanged in every solution. Unique
solutions are therefore offered for ``random`` only. Regions are drawn until one fits, so that the
region is uniform among those that leave the grid as the only solution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fseed.tasks.base import RowProblem

Board = tuple[int, ...]

BASES = (2, 3)
REGIONS = ("prefix", "suffix", "random")

# regions of this size fit once in 16 draws (4x4, where 4 clues are the least possible) and once in
# 44 (9x9, 15 ms a puzzle); 54 blanks of 81 would fit once in 750 draws
MAX_UNIQUE_BLANKS = {2: 12, 3: 50}


@dataclass(frozen=True)
class _Layout:
    """The row, column and box of each cell, as indices into one list of all units."""

    side: int
    row: tuple[int, ...]
    column: tuple[int, ...]
    box: tuple[int, ...]

    @property
    def num_cells(self) -> int:
        return self.side**2

    def units(self, cell: int) -> tuple[int, int, int]:
        return self.row[cell], self.column[cell], self.box[cell]


@dataclass
class _Position:
    """A partly filled board during a search.

    ``used`` has one bit mask per unit: bit d is set when digit d stands in it.
    """

    layout: _Layout
    board: list[int]
    used: list[int]
    blanks: list[int]


def num_cells(base: int) -> int:
    """Return the number of cells of a board."""
    return base**4


def check_blanks(base: int, *, num_blanks: int, unique: bool) -> None:
    """Raise ``ValueError`` for a number of blanks that cannot be made."""
    most = MAX_UNIQUE_BLANKS[base] if unique else num_cells(base) - base**2
    if not 1 <= num_blanks <= most:
        why = "boards with more blanks and one solution are too rare to draw"
        raise ValueError(
            f"num_blanks={num_blanks}: must be between 1 and {most}"
            + (f" with unique=true; {why}" if unique else ", a row of clues must be left")
        )


def parse_board(text: str, *, base: int) -> Board:
    """Return the board that ``text`` spells, one digit a cell; raises ``RowProblem``."""
    if len(text) != num_cells(base):
        raise RowProblem("wrong number of cells")
    allowed = "0123456789"[: base**2 + 1]
    if not set(text) <= set(allowed):
        raise RowProblem("cell outside the digits of the board")
    return tuple(int(cell) for cell in text)


def format_board(board: Sequence[int]) -> str:
    """Return the cells in row-major order, one digit a cell, 0 for a blank."""
    return "".join(str(cell) for cell in board)


def is_solved(board: Sequence[int]) -> bool:
    """Return whether every row, column and box holds each digit once."""
    layout = _layout(len(board))
    if not all(1 <= digit <= layout.side for digit in board):
        return False
    found = {(unit, digit) for cell, digit in enumerate(board) for unit in layout.units(cell)}
    return len(found) == 3 * layout.num_cells


def keeps_clues(board: Sequence[int], puzzle: Sequence[int]) -> bool:
    """Return whether ``board`` has every clue of ``puzzle`` in its place."""
    return all(clue in (0, digit) for digit, clue in zip(board, puzzle, strict=True))


def find_solutions(puzzle: Sequence[int], *, limit: int) -> list[Board]:
    """Return the solutions of ``puzzle``, at most ``limit``; none when clues clash."""
    position = _start(puzzle)
    solutions: list[Board] = []
    if position is not None:
        digits = [range(1, position.layout.side + 1)] * position.layout.num_cells
        _search(position, digits, limit, solutions)
    return solutions


def has_unique_solution(puzzle: Sequence[int]) -> bool:
    """Return whether ``puzzle`` has exactly one solution."""
    return len(find_solutions(puzzle, limit=2)) == 1


def random_grid(base: int, rng: np.random.Generator) -> Board:
    """Return a random solved board.

    All 288 boards of base 2 are equally likely. A board of base 3 is filled by a search that tries
    the digits of every cell in random order: every board can occur, not all equally often.
    """
    if base == 2:
        grids = _all_small_grids()
        return grids[int(rng.integers(len(grids)))]
    position = _start((0,) * num_cells(base))
    assert position is not None
    side = position.layout.side
    orders = rng.permuted(np.tile(np.arange(1, side + 1), (side**2, 1)), axis=1).tolist()
    solutions: list[Board] = []
    _search(position, orders, 1, solutions)
    return solutions[0]


def fixed_region(base: int, *, region: str, num_blanks: int) -> list[int]:
    """Return the cells that ``prefix`` or ``suffix`` blanks."""
    first = {"prefix": 0, "suffix": num_cells(base) - num_blanks}[region]
    return list(range(first, first + num_blanks))


def draw_region(base: int, *, region: str, num_blanks: int, rng: np.random.Generator) -> list[int]:
    """Return the cells to blank; only ``random`` draws."""
    if region == "random":
        return rng.permutation(num_cells(base))[:num_blanks].tolist()
    return fixed_region(base, region=region, num_blanks=num_blanks)


def blank_cells(grid: Board, cells: Sequence[int]) -> Board:
    """Return ``grid`` with ``cells`` blank."""
    puzzle = list(grid)
    for cell in cells:
        puzzle[cell] = 0
    return tuple(puzzle)


def draw_puzzle(
    grid: Board, *, region: str, num_blanks: int, unique: bool, rng: np.random.Generator
) -> Board:
    """Return ``grid`` with ``num_blanks`` blanks in ``region``.

    With ``unique``, and the region ``random`` alone, regions are drawn until the grid is the only
    solution; within the limits of ``check_blanks`` that ends soon. Raises ``ValueError``.
    """
    if unique and region != "random":
        raise ValueError(f"unique solutions with the region {region}: only with random")
    base = _base_of(len(grid))
    while True:
        cells = draw_region(base, region=region, num_blanks=num_blanks, rng=rng)
        puzzle = blank_cells(grid, cells)
        if not unique or has_unique_solution(puzzle):
            return puzzle


def _base_of(cells: int) -> int:
    return {num_cells(base): base for base in BASES}[cells]


@cache
def _layout(cells: int) -> _Layout:
    """Return the layout of a board of 16 or 81 cells."""
    base = _base_of(cells)
    side = base**2
    places = [divmod(cell, side) for cell in range(cells)]
    return _Layout(
        side=side,
        row=tuple(row for row, _ in places),
        column=tuple(side + column for _, column in places),
        box=tuple(2 * side + row // base * base + column // base for row, column in places),
    )


@cache
def _all_small_grids() -> list[Board]:
    """Return all solved boards of base 2."""
    return find_solutions((0,) * num_cells(2), limit=1000)


def _start(puzzle: Sequence[int]) -> _Position | None:
    """Return the position that a search begins with; None when two clues clash."""
    layout = _layout(len(puzzle))
    position = _Position(layout, list(puzzle), [0] * (3 * layout.side), [])
    for cell, digit in enumerate(puzzle):
        if digit == 0:
            position.blanks.append(cell)
            continue
        for unit in layout.units(cell):
            if position.used[unit] >> digit & 1:
                return None
            position.used[unit] |= 1 << digit
    return position


def _search(
    position: _Position, digits: Sequence[Sequence[int]], limit: int, solutions: list[Board]
) -> bool:
    """Append the completions of ``position``; return whether ``limit`` is reached.

    ``digits[cell]`` is the order in which the digits of a cell are tried. The position is left as
    it was found, up to the order of its blanks.
    """
    board, used, blanks = position.board, position.used, position.blanks
    if not blanks:
        solutions.append(tuple(board))
        return len(solutions) == limit
    place, free = _most_constrained(position)
    cell = blanks[place]
    blanks[place] = blanks[-1]
    blanks.pop()
    units = position.layout.units(cell)
    is_full = False
    for digit in digits[cell] if free else ():
        bit = 1 << digit
        if not free & bit:
            continue
        board[cell] = digit
        for unit in units:
            used[unit] ^= bit
        is_full = _search(position, digits, limit, solutions)
        for unit in units:
            used[unit] ^= bit
        if is_full:
            break
    blanks.append(cell)
    board[cell] = 0
    return is_full


def _most_constrained(position: _Position) -> tuple[int, int]:
    """Return the place in ``blanks`` of the cell with the fewest free digits, and their mask."""
    layout, used = position.layout, position.used
    row, column, box = layout.row, layout.column, layout.box
    every = (2 << layout.side) - 2
    best = (0, 0)
    fewest = layout.side + 1
    for place, cell in enumerate(position.blanks):
        free = every & ~(used[row[cell]] | used[column[cell]] | used[box[cell]])
        num_free = free.bit_count()
        if num_free < fewest:
            best, fewest = (place, free), num_free
            if num_free < 2:
                break
    return best
