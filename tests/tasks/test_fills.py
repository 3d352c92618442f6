"""Golden prompts and scores, generated rows, splits, baselines and refused rows of the fills."""

from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
from task_helpers import Bytes, PlainBuild, data_config, task_config, write_jsonl

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.base import MASK, Objective, RowProblem, Setting
from fseed.tasks.encoding import encode_example
from fseed.tasks.fill_patterns import KEYS
from fseed.tasks.fills import (
    CONSTR,
    KVSORT,
    PERMFILL,
    RIGHTCOPY,
    DigitOptions,
    KvsortOptions,
    PermfillOptions,
)
from fseed.tasks.registry import load_task_data
from fseed.tasks.scoring import Prediction, pool_metrics, score_prediction
from fseed.tasks.sources import SPLITS

TASKS = [RIGHTCOPY, CONSTR, KVSORT, PERMFILL]
ORDER = "ab3t" + "".join(key for key in KEYS if key not in "ab3t")

# the worked examples of the docstrings, with the options that accept them
GOLDEN = [
    (RIGHTCOPY, "L=5506|M=____|R=1762", "1762", "5506", SimpleNamespace(num_digits=4)),
    (CONSTR, "P=5506|M=____|R=17", "6171", "5506", SimpleNamespace(num_digits=4)),
    (KVSORT, f"M=____|R=O={ORDER};t3ba", "ab3t", "t3ba", KvsortOptions(num_keys=4)),
    (
        PERMFILL,
        f"M=_b__|R=O={ORDER};t3ba",
        "a3t",
        "tba",
        PermfillOptions(num_keys=4, num_anchors=1),
    ),
]

PINNED = [
    (RIGHTCOPY, f"L=0681865330487118|M={MASK * 16}|R=0433637107009322", "0433637107009322"),
    (CONSTR, f"P=3752570840067167|M={MASK * 16}|R=20", "7202020202020202"),
    (
        KVSORT,
        f"M={MASK * 20}|R=O=1arbwqnx6743dc0gkmo2hipefu8t5j9vszyl;rmzo74p0ljxkdh6953q1",
        "1rqx6743d0kmohp5j9zl",
    ),
    (
        PERMFILL,
        f"M={MASK * 24}|R=O=7uizl8cqetv9s3r5a2n1yohdmxfb4gpwj60k;7vaqhwzytf2xujed9r4binkl",
        "7uizlqetv9ra2nyhdxfb4wjk",
    ),
]


def encode(task, text, answer, options):
    row = {"id": "a", "text": text, "answer": answer}
    task.read_key(row)
    return encode_example(
        task.build_example(row, PlainBuild(order="plain", options=options)),
        task.orders["plain"],
        objective=task.objective,
        tokenizer=Bytes(),
        max_length_tokens=128,
        max_answer_tokens=36,
    )


def rows_of(task, *, number, split="train", options=None, seed=0):
    setting = Setting(split=split, order="plain", options=options or task.options(), seed=seed)
    return list(islice(task.generate_mini(setting), number))


def load(task, *, source=SourceKind.mini, options=None, root=None, **sizes):
    config = task_config(
        name=task.name,
        order="plain",
        max_length_tokens=128,
        max_answer_tokens=36,
        options=options or {},
    )
    return load_task_data(config, data_config(source, root=root, **sizes), Bytes(), splits=SPLITS)


@pytest.mark.parametrize(("task", "text", "answer", "copied", "options"), GOLDEN)
def test_golden_prompt(task, text, answer, copied, options):
    example = encode(task, text, answer, options)
    assert task.objective is Objective.fill
    assert bytes(example.prompt_ids) == text.encode()
    assert bytes(example.answer_ids) == answer.encode()
    assert [text[place] for place in example.mask_positions] == [MASK] * len(answer)
    assert example.units == tuple(range(len(answer)))
    assert example.copied_ids == tuple(copied.encode())


def test_golden_score():
    example = encode(*GOLDEN[0][:3], GOLDEN[0][4])
    rows = [
        score_prediction(
            RIGHTCOPY,
            example,
            Prediction(token_ids=list(guess), loss_sum=loss),
            tokenizer=Bytes(),
        )
        for guess, loss in [(b"1762", 1.0), (b"1700", 2.0), (b"9999", 3.0)]
    ]
    assert pool_metrics(RIGHTCOPY.metrics, rows) == {
        "masked_accuracy": {"value": 0.5, "n": 12},
        "exact": {"value": pytest.approx(1 / 3), "n": 3},
        "loss": {"value": 0.5, "n": 12},
    }
    assert RIGHTCOPY.primary_metric == "masked_accuracy"
    assert RIGHTCOPY.metrics["exact"].pool([]) is None


@pytest.mark.parametrize(("task", "text", "answer"), PINNED)
def test_first_row_is_pinned(task, text, answer):
    """A change of these rows needs a new MINI_VERSION."""
    row = {"id": "mini1-0-train-0", "text": text, "answer": answer}
    assert rows_of(task, number=1) == [row]


@pytest.mark.parametrize("task", TASKS)
def test_generated_rows_are_usable_and_differ(task):
    options = task.options()
    rows = rows_of(task, number=100)
    assert len({row["text"] for row in rows}) == len({row["id"] for row in rows}) == 100
    for row in rows:
        task.read_key(row)
        task.build_example(row, PlainBuild(order="plain", options=options))
    assert rows_of(task, number=10) == rows[:10]
    assert not {row["text"] for row in rows_of(task, number=100, seed=1)} & {
        row["text"] for row in rows
    }


@pytest.mark.parametrize("task", TASKS)
def test_splits_share_no_text(task):
    data = load(task, num_train=60, num_validation=30, num_test=30)
    reports = data.preflight.splits
    assert [report.num_examples for report in reports.values()] == [60, 30, 30]
    assert not any(report.dropped or report.overlap for report in reports.values())
    prompts = [
        {bytes(example.prompt_ids) for example in examples} for examples in data.splits.values()
    ]
    assert len(set.union(*prompts)) == 120


def test_short_digits_repeat_in_no_split():
    """With the fewest digits that are allowed the splits stay apart, too."""
    texts = [
        row["text"]
        for split in SPLITS
        for row in rows_of(CONSTR, number=200, split=split, options=DigitOptions(num_digits=8))
    ]
    assert len(set(texts)) == 600


@pytest.mark.parametrize("evaluated", [24, 28, 32, 36])
def test_permfill_changes_the_number_of_keys_when_evaluated(evaluated):
    options = {"num_keys": 32, "num_keys_evaluated": [evaluated], "num_anchors": 2}
    data = load(PERMFILL, options=options)
    counts = {
        split: {len(example.mask_positions) for example in examples}
        for split, examples in data.splits.items()
    }
    assert counts == {"train": {30}, "validation": {evaluated - 2}, "test": {evaluated - 2}}


def test_permfill_takes_the_evaluated_numbers_in_turn_and_scores_them_apart():
    data = load(PERMFILL, options={"num_keys_evaluated": [28, 36]}, num_validation=10)
    kinds = [example.kind for example in data.splits["validation"]]
    assert kinds == ["n28", "n36"] * 5
    assert {example.kind for example in data.splits["train"]} == {"n24"}


@pytest.mark.parametrize("task", TASKS)
def test_copying_is_no_better_than_chance(task):
    """Copied from the left, or unsorted: each masked position is right by accident only."""
    data = load(task, num_train=50, num_validation=300)
    num_units = sum(len(example.units) for example in data.splits["validation"])
    chance = {"kvsort": 1 / 20, "permfill": 1 / 24}.get(task.name, 1 / 10)
    # the same digit stands at several positions of one constr answer, hence the factor 3
    spread = 3 * 5 * (chance * (1 - chance) / num_units) ** 0.5
    assert abs(data.copy_baseline["masked_accuracy"] - chance) < spread
    assert data.copy_baseline["exact"] == 0.0


def test_constant_is_the_most_frequent_digit_of_each_position():
    data = load(RIGHTCOPY, num_train=40, num_validation=40)
    constants = []
    for place in range(16):
        counts = Counter(example.answers[0][place] for example in data.splits["train"])
        constants.append(min(counts, key=lambda digit: (-counts[digit], digit)))
    right = [
        digit == constants[place]
        for example in data.splits["validation"]
        for place, digit in enumerate(example.answers[0])
    ]
    assert data.constant_baseline["masked_accuracy"] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (RIGHTCOPY, {"num_digits": 7}, r"num_digits=7: must be between 8 and 1024"),
        (CONSTR, {"num_digits": 2000}, r"num_digits=2000: must be between 8 and 1024"),
        (KVSORT, {"num_keys": 37}, r"num_keys=37: must be between 2 and 36"),
        (PERMFILL, {"num_keys_evaluated": [1]}, r"num_keys_evaluated=1: must be between 2 and 36"),
        (PERMFILL, {"num_anchors": 24}, r"num_anchors=24: must be between 0 and 23"),
        (PERMFILL, {"anchors": 2}, r"unknown for permfill; did you mean num_anchors"),
    ],
)
def test_options_out_of_range_are_refused(task, options, message):
    with pytest.raises(UserError, match=message):
        load(task, options=options)


BAD_ROWS = [
    ({"id": ""}, "empty id"),
    ({"answer": "1763"}, "answer that contradicts the rule"),
    ({"answer": "176"}, "answer that contradicts the rule"),
    ({"text": "L=5506|M=____|R=17621"}, "parts of different length"),
    ({"text": "L=5x06|M=____|R=1762"}, "text in another layout or alphabet"),
    ({"text": ""}, "text in another layout or alphabet"),
]
ROW = {"id": "a", "text": "L=5506|M=____|R=1762", "answer": "1762"}


@pytest.mark.parametrize(("changes", "reason"), BAD_ROWS)
def test_bad_rows_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        RIGHTCOPY.read_key(ROW | changes)


@pytest.mark.parametrize(
    ("task", "text", "answer", "options"),
    [
        (*GOLDEN[0][:3], DigitOptions()),
        (*GOLDEN[2][:3], KvsortOptions()),
        (*GOLDEN[3][:3], PermfillOptions(num_keys=4)),
        (*GOLDEN[3][:3], PermfillOptions(num_anchors=1)),
    ],
)
def test_rows_of_another_size_are_refused(task, text, answer, options):
    row = {"id": "a", "text": text, "answer": answer}
    reason = "other numbers of cells or of visible cells than the options"
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        task.build_example(row, PlainBuild(order="plain", options=options))


def test_bad_rows_of_a_file_are_counted(tmp_path):
    good = [row for split in SPLITS for row in rows_of(RIGHTCOPY, number=40, split=split)]
    bad = [ROW | {"id": f"bad{i}"} | changes for i, (changes, _) in enumerate(BAD_ROWS)]
    write_jsonl(tmp_path / "rightcopy", "train", [*good, *bad, ROW | {"text": None}])
    data = load(RIGHTCOPY, source=SourceKind.local, root=str(tmp_path), num_validation=5)
    expected = Counter(reason for _, reason in BAD_ROWS)
    assert data.preflight.splits["train"].dropped == expected | {"malformed row": 1}
    assert all(len(examples) >= 5 for examples in data.splits.values())
