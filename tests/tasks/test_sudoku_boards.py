"""Boards against brute force on 4x4 and against known 9x9 puzzles."""

import time
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest

from fseed.tasks.base import RowProblem
from fseed.tasks.sudoku_boards import (
    MAX_UNIQUE_BLANKS,
    blank_cells,
    check_blanks,
    draw_puzzle,
    draw_region,
    find_solutions,
    format_board,
    has_unique_solution,
    is_solved,
    keeps_clues,
    num_cells,
    parse_board,
    random_grid,
)

# two puzzles of 24 and 17 clues with their published solutions
KNOWN = [
    (
        "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79",
        "534678912672195348198342567859761423426853791713924856961537284287419635345286179",
    ),
    (
        "000000010400000000020000000000050407008000300001090000300400200050100000000806000",
        "693784512487512936125963874932651487568247391741398625319475268856129743274836159",
    ),
]


def read(text):
    return parse_board(text.replace(".", "0"), base=3)


def small_grids():
    """Return all solved 4x4 boards, found without the solver."""
    grids = set()
    for rows in product(permutations((1, 2, 3, 4)), repeat=2):
        top, below = rows
        if {*top[:2], *below[:2]} == {1, 2, 3, 4} == {*top[2:], *below[2:]}:
            grids.add(top + below)
    bands = sorted(grids)
    return {
        one + other
        for one, other in product(bands, repeat=2)
        if all(len({*one[c::4], *other[c::4]}) == 4 for c in range(4))
    }


@pytest.fixture(scope="module")
def grids():
    return sorted(small_grids())


def test_all_small_grids_are_found(grids):
    assert len(grids) == 288
    assert sorted(find_solutions((0,) * 16, limit=1000)) == grids
    assert all(is_solved(grid) for grid in grids)


@pytest.mark.parametrize("num_blanks", [1, 5, 8, 11, 15])
def test_solutions_are_those_of_brute_force(grids, num_blanks):
    rng = np.random.default_rng(num_blanks)
    for grid in grids[::3]:
        cells = draw_region(2, region="random", num_blanks=num_blanks, rng=rng)
        puzzle = blank_cells(grid, cells)
        expected = [other for other in grids if keeps_clues(other, puzzle)]
        assert sorted(find_solutions(puzzle, limit=1000)) == expected
        assert has_unique_solution(puzzle) == (len(expected) == 1)
        assert len(find_solutions(puzzle, limit=2)) == min(2, len(expected))


def test_puzzles_without_solution_have_none(grids):
    rng = np.random.default_rng(0)
    for grid in grids[::12]:
        puzzle = list(blank_cells(grid, rng.permutation(16)[:9].tolist()))
        place = next(cell for cell, digit in enumerate(puzzle) if digit)
        puzzle[place] = puzzle[place] % 4 + 1
        expected = [other for other in grids if keeps_clues(other, puzzle)]
        assert sorted(find_solutions(puzzle, limit=1000)) == expected
    assert find_solutions((1, 1, *(0,) * 14), limit=2) == []


@pytest.mark.parametrize(("puzzle", "solution"), KNOWN)
def test_known_puzzles(puzzle, solution):
    assert find_solutions(read(puzzle), limit=2) == [read(solution)]
    assert is_solved(read(solution))
    assert keeps_clues(read(solution), read(puzzle))


def test_every_row_column_and_box_is_judged(grids):
    """Any one changed cell, and any exchange that spares rows and columns but not boxes, fails."""
    grid = grids[5]
    for cell in range(16):
        for digit in {0, 1, 2, 3, 4} - {grid[cell]}:
            assert not is_solved((*grid[:cell], digit, *grid[cell + 1 :]))
    # a Latin square whose boxes repeat digits
    assert not is_solved((1, 2, 3, 4, 2, 3, 4, 1, 3, 4, 1, 2, 4, 1, 2, 3))
    assert not is_solved((0,) * 81)
    assert not is_solved(tuple(digit + 1 for digit in grid))


def test_clues_must_stay():
    assert keeps_clues((1, 2, 3, 4), (0, 2, 0, 0))
    assert not keeps_clues((1, 2, 3, 4), (0, 3, 0, 0))


def test_small_grids_are_drawn_evenly():
    rng = np.random.default_rng(0)
    counts = Counter(random_grid(2, rng) for _ in range(20 * 288))
    assert len(counts) == 288
    # chi-squared with 287 degrees of freedom: mean 287, standard deviation 24
    spread = sum((count - 20) ** 2 / 20 for count in counts.values())
    assert 167 < spread < 407


def test_large_grids_are_solved_different_and_pinned_by_the_generator():
    grids = [random_grid(3, np.random.default_rng([7, index])) for index in range(50)]
    assert all(is_solved(grid) for grid in grids)
    assert len(set(grids)) == 50
    assert random_grid(3, np.random.default_rng([7, 0])) == grids[0]
    # every digit turns up in the first cell: no cell is filled in a fixed order
    assert len({grid[0] for grid in grids}) == 9


@pytest.mark.parametrize("base", [2, 3])
@pytest.mark.parametrize("region", ["prefix", "suffix", "random"])
def test_regions(base, region):
    rng = np.random.default_rng(0)
    grid = random_grid(base, rng)
    puzzle = draw_puzzle(grid, region=region, num_blanks=8, unique=False, rng=rng)
    blanks = [cell for cell, digit in enumerate(puzzle) if digit == 0]
    total = num_cells(base)
    expected = {"prefix": list(range(8)), "suffix": list(range(total - 8, total))}
    assert blanks == expected.get(region, blanks)
    assert len(blanks) == 8
    assert keeps_clues(grid, puzzle)


def test_random_regions_reach_every_cell_evenly():
    rng = np.random.default_rng(0)
    counts = Counter(
        cell
        for _ in range(1000)
        for cell in draw_region(3, region="random", num_blanks=27, rng=rng)
    )
    share, spread = 1000 / 3, (1000 * (1 / 3) * (2 / 3)) ** 0.5
    assert len(counts) == 81
    assert all(abs(count - share) < 5 * spread for count in counts.values())


@pytest.mark.parametrize(("base", "num_blanks"), [(2, 8), (2, 12), (3, 40), (3, 50)])
def test_unique_puzzles_have_one_solution(base, num_blanks):
    rng = np.random.default_rng(1)
    for _ in range(10):
        grid = random_grid(base, rng)
        puzzle = draw_puzzle(grid, region="random", num_blanks=num_blanks, unique=True, rng=rng)
        assert puzzle.count(0) == num_blanks
        assert find_solutions(puzzle, limit=2) == [grid]


def test_at_least_fifty_unique_puzzles_a_second():
    """They take about a twentieth of this time on an idle core."""
    rng = np.random.default_rng(2)
    started = time.perf_counter()
    for _ in range(100):
        grid = random_grid(3, rng)
        draw_puzzle(grid, region="random", num_blanks=40, unique=True, rng=rng)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("region", ["prefix", "suffix"])
def test_two_blank_rows_never_leave_one_solution(grids, region):
    """The reason why unique solutions are refused for these regions."""
    rng = np.random.default_rng(0)
    for grid in [*grids[::20], random_grid(3, rng)]:
        base = int(len(grid) ** 0.25)
        puzzle = draw_puzzle(grid, region=region, num_blanks=2 * base**2, unique=False, rng=rng)
        assert len(find_solutions(puzzle, limit=2)) == 2


@pytest.mark.parametrize(
    ("base", "num_blanks", "unique", "message"),
    [
        (2, 0, False, "num_blanks=0: must be between 1 and 12, a row of clues"),
        (2, 13, False, "num_blanks=13: must be between 1 and 12, a row of clues"),
        (3, 73, False, "num_blanks=73: must be between 1 and 72, a row of clues"),
        (2, 13, True, "num_blanks=13: must be between 1 and 12 with unique=true"),
        (3, 51, True, "num_blanks=51: must be between 1 and 50 with unique=true"),
    ],
)
def test_blanks_that_cannot_be_made_are_refused(base, num_blanks, unique, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_blanks(base, num_blanks=num_blanks, unique=unique)


@pytest.mark.parametrize("base", [2, 3])
def test_the_largest_numbers_of_blanks_are_accepted(base):
    check_blanks(base, num_blanks=num_cells(base) - base**2, unique=False)
    check_blanks(base, num_blanks=MAX_UNIQUE_BLANKS[base], unique=True)


@pytest.mark.parametrize("region", ["prefix", "suffix"])
def test_unique_solutions_are_for_random_regions(grids, region):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=f"with the region {region}: only with random"):
        draw_puzzle(grids[0], region=region, num_blanks=3, unique=True, rng=rng)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("123", "wrong number of cells"),
        ("1" * 81, "wrong number of cells"),
        ("5234341221434321", "cell outside the digits of the board"),
        ("1234 34122143432", "cell outside the digits of the board"),
        ("\u0661234341221434321", "cell outside the digits of the board"),
    ],
)
def test_text_that_is_no_board_says_why(text, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        parse_board(text, base=2)


def test_text_and_board_are_the_same():
    text = "1030040201430001"
    assert format_board(parse_board(text, base=2)) == text
