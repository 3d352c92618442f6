"""Golden prompt and score, refused rows, splits and execution of MBPP."""

import json

import pytest
from task_helpers import Bytes, PlainBuild, data_config, encoded, task_config, write_jsonl

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.sandbox import isolation
from fseed.sandbox.run import run_solutions
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution
from fseed.tasks.base import Form, RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.mbpp import (
    MBPP,
    MbppOptions,
    build_example,
    read_key,
    read_note,
)
from fseed.tasks.registry import load_task_data
from fseed.tasks.sections import render_prompt
from fseed.tasks.sources import SPLITS

ROW = {
    "task_id": 7,
    "text": "Write a function to  double a number.",
    "code": "\r\ndef twice(n): \r\n\treturn 2 * n\r\n\r\n",
    "test_list": ["assert twice(2) == 4", "assert twice(-1) == -2\r\n"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
NOTE = "# Write a function to add two numbers.\ndef add(a, b):\n\n    return a + b"

TASK_PART = """Problem:
Write a function to double a number.

Tests:
assert twice(2) == 4
assert twice(-1) == -2"""
NOTES_PART = """Notes:
# Write a function to add two numbers.
def add(a, b):
    return a + b"""


@pytest.fixture
def _isolated():
    if isolation.isolation_level() == "none":
        pytest.skip("no level of isolation works here")


def build(*, notes=(NOTE,), num_notes=1):
    return PlainBuild(order="filler_last", options=MbppOptions(num_notes=num_notes), notes=notes)


def example_of(*, row=ROW, **options):
    return build_example(row, build(**options))


def encode(example, *, order="filler_last", max_length_tokens=1000, max_answer_tokens=100):
    return encode_example(
        example,
        MBPP.orders[order],
        tokenizer=Bytes(),
        max_length_tokens=max_length_tokens,
        max_answer_tokens=max_answer_tokens,
    )


def make_row(number: int, **changes):
    name = f"kelp{number}"
    row = {
        "task_id": number,
        "text": f"Write a function to compute moss{number} of fern{number} and reed{number}.",
        "code": f"def {name}(n):\n    return n + {number}",
        "test_list": [f"assert {name}(1) == {number + 1}"],
        "test_setup_code": "",
    }
    return row | changes


def write_splits(root, **rows):
    for split in SPLITS:
        start = 100 * SPLITS.index(split)
        write_jsonl(
            root / "mbpp", split, rows.get(split, [make_row(n) for n in range(start, start + 12)])
        )
    return root


def load(root=None, *, source=SourceKind.local, **changes):
    sizes = {"num_train": 8, "num_validation": 6, "num_test": 4}
    config = task_config(
        **{
            "name": "mbpp",
            "order": "filler_last",
            "max_length_tokens": 600,
            "max_answer_tokens": 100,
            "options": {},
        }
        | {name: changes.pop(name) for name in ("order", "options") if name in changes}
    )
    data = data_config(source, root=None if root is None else str(root), **(sizes | changes))
    return load_task_data(config, data, Bytes(), splits=SPLITS)


@pytest.mark.parametrize(
    ("order", "parts"),
    [
        ("filler_last", (TASK_PART, NOTES_PART)),
        ("task_last", (NOTES_PART, TASK_PART)),
    ],
)
def test_golden_prompt(order, parts):
    example = example_of()
    prompt = render_prompt(example, MBPP.orders[order])
    assert prompt == "\n\n".join([*parts, "Python solution:"]) + "\n"
    assert example.form is Form.code
    found = encode(example, order=order)
    assert bytes(found.prompt_ids).decode() == prompt
    assert bytes(found.answer_ids) == b"def twice(n): \n\treturn 2 * n\0"


def test_reference_holds_what_is_run():
    row = ROW | {"test_setup_code": "top = 1\r\n"}
    assert json.loads(example_of(row=row).reference) == {
        "setup": "top = 1",
        "tests": ["assert twice(2) == 4", "assert twice(-1) == -2"],
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": ""}, "empty text"),
        ({"text": " \n"}, "empty text"),
        ({"text": None}, "empty text"),
        ({"code": None}, "empty code"),
        ({"code": "\r\n \r\n"}, "empty code"),
        ({"test_list": []}, "no tests"),
        ({"test_list": None}, "no tests"),
        ({"test_list": ["assert 1", ""]}, "empty test"),
        ({"test_list": [None]}, "empty test"),
        ({"task_id": None}, "empty task_id"),
        ({"code": "def twice(n:"}, "code that is no Python"),
        ({"code": "x = '\0'"}, "code that is no Python"),
        ({"test_list": ["assert twice(2) =="]}, "test that is no Python"),
        ({"test_setup_code": "top ="}, "setup that is no Python"),
    ],
)
def test_bad_rows_are_refused(changes, reason):
    with pytest.raises(RowProblem) as caught:
        read_key(ROW | changes)
    assert str(caught.value) == reason


def test_key_of_a_row():
    key = read_key(ROW)
    assert key.row_id == key.division == "7"
    assert key.text == "Write a function to double a number."
    same = read_key(ROW | {"code": "# the same\ndef twice(n):\n    return (2 * n)"})
    other = read_key(ROW | {"code": "def twice(n):\n    return 3 * n"})
    assert same.groups == key.groups != other.groups


def test_a_missing_setup_is_an_empty_one():
    assert json.loads(example_of(row=ROW | {"test_setup_code": None}).reference)["setup"] == ""


def test_escapes_that_python_warns_about_are_accepted():
    assert read_key(ROW | {"code": "pattern = '\\d'"}).row_id == "7"


def test_note_of_a_row():
    assert read_note(ROW, build().setting) == (
        "# Write a function to double a number.\ndef twice(n): \n\treturn 2 * n"
    )


def test_notes_are_cut_by_lines_from_the_end():
    example = example_of()
    whole = encode(example)
    assert not whole.is_cut
    length = len(whole.prompt_ids) + len(whole.answer_ids)
    shorter = encode(example, max_length_tokens=length - 1)
    assert shorter.is_cut
    text = bytes(shorter.prompt_ids).decode()
    assert "def add(a, b):\n\nPython solution:\n" in text
    assert TASK_PART in text


def test_too_few_notes():
    with pytest.raises(RowProblem, match="too few notes"):
        example_of(num_notes=2)


@pytest.mark.parametrize("num_notes", [0, 65, -1])
def test_options_out_of_range(num_notes):
    with pytest.raises(ValueError, match=f"num_notes={num_notes}: must be 1..64"):
        MbppOptions(num_notes=num_notes)


@pytest.mark.usefixtures("_isolated")
@pytest.mark.parametrize("order", ["q_after", pytest.param("q_first", marks=pytest.mark.slow)])
def test_mini_loads_in_both_orders(order):
    data = load(source=SourceKind.mini, order=order)
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 8,
        "validation": 6,
        "test": 4,
    }
    prompt = bytes(data.splits["train"][0].prompt_ids).decode()
    assert prompt.startswith("Problem:" if order == "q_after" else "Notes:")
    assert 0 <= data.constant_baseline["tests_passed"] < 1
    assert data.constant_baseline["exec_ok"] == 1.0
    assert data.copy_baseline == {}


@pytest.mark.usefixtures("_isolated")
def test_notes_hold_nothing_of_their_example():
    for examples in load(source=SourceKind.mini).splits.values():
        for example in examples:
            prompt = bytes(example.prompt_ids).decode()
            assert example.answers[0] not in prompt
            problem = prompt.split("\n")[1]
            assert prompt.count(problem) == 1


@pytest.mark.usefixtures("_isolated")
def test_local_rows_are_counted_and_dropped(tmp_path):
    good = [make_row(n) for n in range(10)]
    bad = [
        make_row(10, text=""),
        make_row(11, code="def ("),
        make_row(12, test_list=[]),
        make_row(3),
        make_row(13, task_id="13"),
    ]
    shared = make_row(14, code=make_row(200)["code"])
    root = write_splits(tmp_path, train=[*good, *bad, shared])
    report = load(root).preflight.splits["train"]
    assert report.dropped == {
        "empty text": 1,
        "code that is no Python": 1,
        "no tests": 1,
        "repeated id": 1,
        "malformed row": 1,
    }
    assert report.overlap == {"shared solution": 1}


def test_nothing_usable_is_one_error(tmp_path):
    root = write_splits(tmp_path, train=[make_row(n, code="def (") for n in range(12)])
    with pytest.raises(UserError, match=r"data\.num_train=8 examples wanted, 0 found in 12 rows"):
        load(root)


@pytest.mark.usefixtures("_isolated")
def test_real_rows(shared_data):
    data = load_task_data(
        task_config(
            name="mbpp", order="filler_last", max_length_tokens=3000, max_answer_tokens=800
        ),
        data_config(SourceKind.local, root=str(shared_data), num_train=300, num_validation=60),
        Bytes(),
    )
    examples = [example for split in data.splits.values() for example in split]
    assert not any(b"\r" in bytes(e.prompt_ids) + bytes(e.answer_ids) for e in examples)
    chosen = examples[::18]
    solutions = [Solution(bytes(e.answer_ids[:-1]).decode(), **_parts(e.reference)) for e in chosen]
    verdicts = run_solutions(solutions, options=SandboxOptions(), num_workers=2)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED] * 20


def _parts(reference: str):
    parts = json.loads(reference)
    return {"setup": parts["setup"], "tests": tuple(parts["tests"])}


def test_code_form_scores_every_token():
    assert encode(example_of()).units == tuple(range(len("def twice(n): \n\treturn 2 * n")))
    assert encoded("x").label_ids == ()
