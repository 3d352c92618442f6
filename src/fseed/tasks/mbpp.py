"""MBPP (Austin et al. 2021): a problem and its tests in, a Python function out, judged by running.

Worked example (invented), order ``filler_last``; ``task_last`` puts the notes first::

    Problem:
    Write a function to double a number.

    Tests:
    assert twice(2) == 4
    assert twice(-1) == -2

    Notes:
    # Write a function to add two numbers.
    def add(a, b):
        return a + b

    Python solution:
    def twice(n):
        return 2 * n<end of text>

The prompt ends with the line ``Python solution:``; the program begins on the next one. Notes are
other problems of the split with their solutions, each a comment and its code; their last lines are
cut first, blank lines are left out. Line ends are LF in all that the model reads and writes
(the published code has CRLF), and nothing else in a program is changed.

Programs are judged as ``mbpp_scores.py`` says. ``challenge_test_list`` is not used.
"""

import ast
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fseed.tasks.base import (
    Build,
    DataSet,
    Example,
    Form,
    NoteRule,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    Section,
    Setting,
    Task,
    same_names,
)
from fseed.tasks.mbpp_mini import MINI_VERSION, generate_mini
from fseed.tasks.mbpp_scores import GENERATION_COLUMNS, METRICS, score_generation

MAX_NOTES = 64

COLUMNS: dict[str, Any] = {
    "task_id": "integer",
    "text": "string",
    "code": "string",
    "test_list": ["string"],
    "test_setup_code": "string",
}


@dataclass(frozen=True)
class MbppOptions:
    """``num_notes`` other problems with their solutions."""

    num_notes: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.num_notes <= MAX_NOTES:
            raise ValueError(f"num_notes={self.num_notes}: must be 1..{MAX_NOTES}")


@dataclass(frozen=True)
class Problem:
    """The cleaned fields of a row."""

    row_id: str
    text: str
    code: str
    setup: str
    tests: tuple[str, ...]


def read_key(row: Row) -> RowKey:
    """Return id, problem and solution of a row; raises ``RowProblem``.

    Rows with the same solution count as the same problem, whatever their texts say.
    """
    problem = read_problem(row)
    return RowKey(
        row_id=problem.row_id,
        text=problem.text,
        groups=frozenset({_name_program(problem.code)}),
        division=problem.row_id,
    )


def read_problem(row: Row) -> Problem:
    """Return the fields of a row; raises ``RowProblem`` for one that cannot be a problem."""
    text, code = " ".join((row["text"] or "").split()), _clean_code(row["code"])
    tests = tuple(_clean_code(test) for test in row["test_list"] or ())
    setup = _clean_code(row["test_setup_code"])
    if row["task_id"] is None:
        raise RowProblem("empty task_id")
    if not text:
        raise RowProblem("empty text")
    if not code:
        raise RowProblem("empty code")
    if not tests:
        raise RowProblem("no tests")
    if not all(tests):
        raise RowProblem("empty test")
    _parse(code, "code that is no Python")
    _parse(setup, "setup that is no Python")
    for test in tests:
        _parse(test, "test that is no Python")
    return Problem(str(row["task_id"]), text, code, setup, tests)


def read_note(row: Row, setting: Setting) -> str:
    """Return a row as a note: its problem as a comment, then its code; raises ``RowProblem``."""
    problem = read_problem(row)
    return f"# {problem.text}\n{problem.code}"


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    problem = read_problem(row)
    num_notes = build.setting.options.num_notes
    own = [problem.text, problem.code, *problem.tests]
    notes = build.draw_notes(problem.row_id, num=num_notes, own=own)
    if len(notes) < num_notes:
        raise RowProblem("too few notes in the split")
    return Example(
        example_id=problem.row_id,
        kind="function",
        sections={
            "problem": Section("Problem", _lines([problem.text])),
            "tests": Section("Tests", _lines(problem.tests)),
            "notes": _build_notes(notes),
        },
        answers=(problem.code,),
        cue="Python solution:",
        form=Form.code,
        reference=json.dumps({"setup": problem.setup, "tests": problem.tests}),
    )


def _build_notes(notes: Sequence[str]) -> Section:
    """Return the notes line by line; the last lines are cut first."""
    paragraphs = _lines([line for note in notes for line in note.split("\n") if line.strip()])
    return Section("Notes", paragraphs, tuple((place, 0) for place in range(len(paragraphs))))


def _lines(texts: Sequence[str]) -> tuple[Paragraph, ...]:
    """Return each text on lines of its own."""
    return tuple(Paragraph(None, (text,)) for text in texts)


def _clean_code(text: str | None) -> str:
    """Return code with LF line ends and without blank lines around it."""
    lines = (text or "").replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")
    first = next((place for place, line in enumerate(lines) if line.strip()), len(lines))
    return "\n".join(lines[first:])


def _name_program(code: str) -> str:
    """Return a name that programs share when they differ in layout and comments alone."""
    tree = _parse(code, "code that is no Python")
    return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _parse(code: str, reason: str) -> ast.Module:
    """Return the syntax tree of ``code``; raises ``RowProblem(reason)`` when there is none."""
    try:
        with warnings.catch_warnings():
            # published code has escapes that newer versions of Python warn about
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RowProblem(reason) from error


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; order and options change nothing in them."""
    return generate_mini(setting.split, seed=setting.seed)


FULL = DataSet(
    folder="mbpp",
    hub_id="google-research-datasets/mbpp",
    hub_config="full",
    columns=COLUMNS,
    key_columns=tuple(COLUMNS),
    files=same_names("train", "validation", "test"),
    hub_splits={split: split for split in ("train", "validation", "test")},
)

MBPP = Task(
    name="mbpp",
    summary="Short Python functions from a problem and its tests, judged by running them.",
    datasets={"full": FULL},
    orders={
        "filler_last": ("problem", "tests", "notes"),
        "task_last": ("notes", "problem", "tests"),
    },
    order_aliases={"q_after": "filler_last", "q_first": "task_last"},
    metrics=METRICS,
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
    options=MbppOptions,
    shared="shared solution",
    notes=NoteRule(read=read_note, unit="words", run=8),
    score_generation=score_generation,
    generation_columns=GENERATION_COLUMNS,
    executes_code=True,
)
