"""Golden prompt and score, generated rows, splits, baselines and refused rows of both Sudokus."""

from collections import Counter
from itertools import islice

import pytest
from task_helpers import Bytes, PlainBuild, data_config, task_config, write_jsonl

from fseed.config.schema import MbppConfig, SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem, Setting
from fseed.tasks.encoding import encode_example
from fseed.tasks.generated_splits import split_of
from fseed.tasks.registry import load_task_data
from fseed.tasks.sources import SPLITS
from fseed.tasks.sudoku import (
    SUDOKU4,
    SUDOKU9,
    Sudoku4Options,
    Sudoku9Options,
    score_board,
)
from fseed.tasks.sudoku_boards import (
    blank_cells,
    find_solutions,
    fixed_region,
    format_board,
    has_unique_solution,
    is_solved,
    keeps_clues,
    parse_board,
)

ROW = {"id": "a", "puzzle": "0000000021434321", "solution": "1234341221434321"}
PINNED_4 = {
    "id": "mini1-0-train-0",
    "puzzle": "0000000012434312",
    "solution": "2134342112434312",
}
PINNED_9 = {
    "id": "mini1-0-train-0",
    "puzzle": "068051000930000800004800630097504018651708093000009500500947100720605084000283700",
    "solution": "268351947935476821174892635397564218651728493842139576583947162729615384416283759",
}
TASKS = [(SUDOKU4, Sudoku4Options(), 2), (SUDOKU9, Sudoku9Options(), 3)]


class Pairs(Bytes):
    """Two characters a token where there are two, as the World vocabulary has for digits."""

    def encode(self, text):
        return [sum(text[i : i + 2].encode()) for i in range(0, len(text), 2)]


def encode(row=ROW, *, task=SUDOKU4, options=None, order="prefix", tokenizer=None):
    build = PlainBuild(order=order, options=options or Sudoku4Options())
    return encode_example(
        task.build_example(row, build),
        task.orders[order],
        tokenizer=tokenizer or Bytes(),
        max_length_tokens=46,
        max_answer_tokens=16,
    )


def rows_of(task, options, *, number, split="train", order="random", seed=0):
    setting = Setting(split=split, order=order, options=options, seed=seed)
    return list(islice(task.generate_mini(setting), number))


def load(name="sudoku4", *, source=SourceKind.mini, order="prefix", options=None, **sizes):
    root = sizes.pop("root", None)
    return load_task_data(
        task_config(
            name=name,
            order=order,
            max_length_tokens=176,
            max_answer_tokens=81,
            options=options or {},
        ),
        data_config(source, root=root, **sizes),
        Bytes(),
        splits=SPLITS,
    )


def test_golden_prompt_and_score():
    example = encode()
    assert bytes(example.prompt_ids) == b"SUDOKU4|P=0000000021434321|A="
    assert bytes(example.answer_ids) == b"1234341221434321\0"
    assert example.units == (0, 1, 2, 3, 4, 5, 6, 7)
    assert example.copied_ids == (*b"0000000021434321", 0)
    texts = [["1234341221434321"], ["3412123421434321"], ["1234341221434312"]]
    assert SUDOKU4.score_generation is not None
    assert SUDOKU4.score_generation([example] * 3, texts, MbppConfig()) == [
        {"solved": 1.0, "exact": 1.0},
        {"solved": 1.0, "exact": 0.0},
        {"solved": 0.0, "exact": 0.0},
    ]


def test_every_character_is_one_token():
    example = encode(tokenizer=Pairs())
    assert len(example.prompt_ids) == 29
    assert len(example.answer_ids) == 17


@pytest.mark.parametrize(
    "text",
    [
        "4321214334121234",  # solved, but another puzzle
        "1234341221434321" * 2,
        "123434122143432",
        " 1234341221434321",
        "12343412214343a1",
        "0000000021434321",
        "",
    ],
)
def test_other_answers_solve_nothing(text):
    assert score_board(text, ROW["solution"], ROW["puzzle"]) == {"solved": 0.0, "exact": 0.0}


def test_metrics_are_those_of_the_task():
    for task, _, _ in TASKS:
        assert task.primary_metric == "blank_accuracy"
        assert {"solved", "exact"} <= set(task.metrics)
    rows = [
        {"num_correct": 3, "num_units": 8, "solved": 1.0, "exact": None},
        {"num_correct": 5, "num_units": 8, "solved": 0.0, "exact": None},
    ]
    assert SUDOKU4.metrics["blank_accuracy"].pool(rows) == (0.5, 16)
    assert SUDOKU4.metrics["solved"].pool(rows) == (0.5, 2)
    assert SUDOKU4.metrics["exact"].pool(rows) is None


def test_first_rows_are_pinned():
    """A change of these rows needs a new MINI_VERSION."""
    [row] = rows_of(SUDOKU4, Sudoku4Options(), number=1, order="prefix")
    assert row == PINNED_4
    [row] = rows_of(SUDOKU9, Sudoku9Options(unique=True), number=1)
    assert row == PINNED_9


@pytest.mark.parametrize(("task", "options", "base"), TASKS)
@pytest.mark.parametrize("order", ["prefix", "suffix", "random"])
def test_generated_rows_keep_what_is_asked_for(task, options, base, order):
    for row in rows_of(task, options, number=20, order=order):
        puzzle = parse_board(row["puzzle"], base=base)
        solution = parse_board(row["solution"], base=base)
        assert is_solved(solution)
        assert keeps_clues(solution, puzzle)
        blanks = [cell for cell, digit in enumerate(puzzle) if digit == 0]
        assert len(blanks) == options.num_blanks
        task.read_key(row)
        example = task.build_example(row, PlainBuild(order=order, options=options))
        assert example.units == tuple(blanks)


@pytest.mark.parametrize(
    ("task", "options", "base"),
    [(SUDOKU4, Sudoku4Options(unique=True), 2), (SUDOKU9, Sudoku9Options(unique=True), 3)],
)
def test_unique_rows_have_one_solution(task, options, base):
    rows = rows_of(task, options, number=20)
    assert all(has_unique_solution(parse_board(row["puzzle"], base=base)) for row in rows)


def test_more_rows_and_other_seeds():
    first = rows_of(SUDOKU9, Sudoku9Options(), number=3)
    assert rows_of(SUDOKU9, Sudoku9Options(), number=6)[:3] == first
    other = rows_of(SUDOKU9, Sudoku9Options(), number=3, seed=1)
    assert not {row["solution"] for row in first} & {row["solution"] for row in other}
    assert len({row["id"] for row in first + other}) == 6


@pytest.mark.parametrize("order", ["prefix", "suffix", "random"])
def test_splits_share_no_solution_and_where_possible_no_puzzle(order):
    rows = {
        split: rows_of(SUDOKU4, Sudoku4Options(), number=400, split=split, order=order)
        for split in SPLITS
    }
    for left, right in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        for name in ["solution"] if order == "random" else ["solution", "puzzle"]:
            shared = {row[name] for row in rows[left]} & {row[name] for row in rows[right]}
            assert not shared


@pytest.mark.parametrize("order", ["prefix", "suffix"])
def test_every_split_of_the_small_boards_has_rows(order):
    """With most cells blank few different clues are left; the search for a grid must still end."""
    grids = find_solutions((0,) * 16, limit=1000)
    for num_blanks in range(1, 13):
        cells = fixed_region(2, region=order, num_blanks=num_blanks)
        counts = Counter(split_of(format_board(blank_cells(grid, cells))) for grid in grids)
        assert counts.keys() == set(SPLITS)


@pytest.mark.parametrize("order", ["prefix", "random"])
def test_loads_as_many_examples_as_are_wanted(order):
    data = load(order=order, num_train=200, num_validation=100, num_test=100)
    reports = data.preflight.splits
    assert [report.num_examples for report in reports.values()] == [200, 100, 100]
    assert not any(report.dropped or report.overlap for report in reports.values())


def test_baselines():
    data = load("sudoku9", order="random", options={"num_blanks": 27}, num_train=30)
    assert data.copy_baseline["blank_accuracy"] == 0.0
    assert data.copy_baseline["token_accuracy"] == pytest.approx(54 / 81)
    assert data.copy_baseline["solved"] == data.copy_baseline["exact"] == 0.0
    train, validation = data.splits["train"], data.splits["validation"]
    constants = []
    for cell in range(81):
        counts = Counter(example.answers[0][cell] for example in train)
        constants.append(min(counts, key=lambda digit: (-counts[digit], digit)))
    right = [
        example.answers[0][cell] == constants[cell]
        for example in validation
        for cell in example.units
    ]
    assert data.constant_baseline["blank_accuracy"] == pytest.approx(sum(right) / len(right))
    assert data.constant_baseline["solved"] == 0.0


@pytest.mark.parametrize("order", ["prefix", "suffix"])
def test_unique_solutions_need_a_random_region(order):
    with pytest.raises(UserError, match=r"only with task\.order=random") as caught:
        load(order=order, options={"unique": True})
    assert len(str(caught.value).splitlines()) <= 3


def test_options_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"task\.options\.num_blanks=13: must be between 1 and 12"):
        load(options={"num_blanks": 13})


BAD_ROWS = [
    ({"id": ""}, "empty id"),
    ({"puzzle": "000000002143432"}, "wrong number of cells"),
    ({"solution": ""}, "wrong number of cells"),
    ({"puzzle": "0000000051434321"}, "cell outside the digits of the board"),
    ({"solution": "1234341221434312"}, "solution that is no solved board"),
    ({"puzzle": "0000000034124321"}, "clue that contradicts the solution"),
]

# readable, but not what order and options ask for
UNFIT_ROWS = [
    ({"puzzle": "1234341200000000"}, {}, "blanks that are no prefix"),
    ({"puzzle": "0000000001434321"}, {}, "number of blanks that is not 8"),
    ({}, {"order": "random", "options": Sudoku4Options(unique=True)}, "several solutions"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ROWS)
def test_bad_rows_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        SUDOKU4.read_key(ROW | changes)


@pytest.mark.parametrize(("changes", "setting", "reason"), UNFIT_ROWS)
def test_unfit_rows_say_why(changes, setting, reason):
    row = ROW | changes
    SUDOKU4.read_key(row)
    build = PlainBuild(**({"order": "prefix", "options": Sudoku4Options()} | setting))
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        SUDOKU4.build_example(row, build)


def test_bad_rows_of_a_file_are_counted(tmp_path):
    """The three splits are divided by solution, and every bad row is counted with its reason."""
    good = [
        row
        for split in SPLITS
        for row in rows_of(SUDOKU4, Sudoku4Options(), number=60, split=split, order="prefix")
    ]
    bad = [ROW | {"id": f"bad{i}"} | changes for i, (changes, _) in enumerate(BAD_ROWS)]
    missing = [ROW | {"id": "none", "solution": None}, {"id": "short"}]
    unfit = [
        ROW | {"id": f"unfit{i}"} | changes for i, (changes, _, _) in enumerate(UNFIT_ROWS[:2])
    ]
    write_jsonl(tmp_path / "sudoku4", "train", [*good, *bad, *missing, *unfit])
    with pytest.raises(UserError, match=r"data\.num_train=1000 examples wanted") as caught:
        load(source=SourceKind.local, root=str(tmp_path), num_train=1000)
    for reason in {reason for _, reason in BAD_ROWS}:
        assert reason in str(caught.value)
    data = load(source=SourceKind.local, root=str(tmp_path), num_train=60)
    dropped = data.preflight.splits["train"].dropped
    expected = Counter(reason for _, reason in BAD_ROWS)
    assert {name: dropped[name] for name in expected} == expected
    assert dropped["malformed row"] == len(missing)
    solutions = {
        split: {example.answers[0] for example in examples}
        for split, examples in data.splits.items()
    }
    assert not solutions["train"] & (solutions["validation"] | solutions["test"])
    assert not solutions["validation"] & solutions["test"]
