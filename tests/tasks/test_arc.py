import pyarrow.parquet as pq
import pytest
from task_helpers import Bytes, PlainBuild, data_config, task_config

from fseed.config.schema import SourceKind
from fseed.tasks.arc import ARC, build_example, read_key
from fseed.tasks.base import EncodedExample, RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.registry import load_task_data
from fseed.tasks.scoring import Prediction, pool_metrics, score_prediction
from fseed.tasks.sections import render_prompt

OPTIONS = """Options:
A. Bako's red lamp
B. Rilu's blue drum
C. Vemo's grey rope"""

QUESTION = """Question:
Which one is blue?"""


def arc_row(**changes):
    """Return a row whose options are stored out of order and with stray white space."""
    row = {
        "id": "row7",
        "question": " Which one\nis blue? ",
        "choices": {
            "text": ["Vemo's grey rope", "Bako's red  lamp", "Rilu's blue drum"],
            "label": ["C", "A", "B"],
        },
        "answerKey": "B",
    }
    return row | changes


def choices(texts, labels):
    return {"choices": {"text": texts, "label": labels}}


def encode(row) -> EncodedExample:
    return encode_example(
        build_example(row, PlainBuild()),
        ARC.orders["question_last"],
        tokenizer=Bytes(),
        max_length_tokens=512,
        max_answer_tokens=2,
    )


@pytest.mark.parametrize(
    ("order", "golden"),
    [
        ("question_last", f"{OPTIONS}\n\n{QUESTION}\n\nAnswer:"),
        ("evidence_last", f"{QUESTION}\n\n{OPTIONS}\n\nAnswer:"),
    ],
)
def test_golden_prompt(order, golden):
    example = build_example(arc_row(), PlainBuild(order=order))
    assert render_prompt(example, ARC.orders[order]) == golden
    assert example.answers == ("B",)


def test_answer_is_one_unit_among_the_labels_of_the_row():
    example = encode(arc_row())
    assert bytes(example.answer_ids) == b" B\x00"
    assert example.units == (1,)
    assert example.label_ids == tuple(b"ABC")
    digits = encode(arc_row(**choices(["x", "y"], ["1", "2"]), answerKey="2"))
    assert digits.label_ids == tuple(b"12")


@pytest.mark.parametrize(
    ("label", "token", "scores"),
    [
        (b"B", b"B", {"accuracy": 1.0, "full_vocabulary_accuracy": 1.0}),
        # likeliest of the labels, but another token is likelier still
        (b"B", b"x", {"accuracy": 1.0, "full_vocabulary_accuracy": 0.0}),
        (b"A", b"A", {"accuracy": 0.0, "full_vocabulary_accuracy": 0.0}),
    ],
)
def test_golden_score(label, token, scores):
    example = encode(arc_row())
    prediction = Prediction(token_ids=[32, *token, 0], label_ids=list(label), loss_sum=1.5)
    row = score_prediction(ARC, example, prediction, tokenizer=Bytes())
    found = {name: entry["value"] for name, entry in pool_metrics(ARC.metrics, [row]).items()}
    assert found == scores | {"end_of_text_accuracy": 1.0, "loss": 0.5}
    assert ARC.primary_metric == "accuracy"


def test_key_has_question_and_options_in_any_order():
    row = arc_row()
    shuffled = arc_row(
        **choices(["Rilu's blue drum", "Vemo's grey rope", "Bako's red lamp"], list("ABC")),
        answerKey="A",
    )
    assert read_key(row).row_id == "row7"
    assert read_key(row).text == read_key(shuffled).text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, "empty id"),
        ({"question": " \n"}, "empty question"),
        ({"answerKey": None}, "empty answerKey"),
        ({"answerKey": "D"}, "answer key is not among the labels"),
        ({"answerKey": "b"}, "answer key is not among the labels"),
        ({"choices": None}, "fewer than two options"),
        (choices([], []), "fewer than two options"),
        (choices(["x"], ["B"]), "fewer than two options"),
        (choices(None, ["A", "B"]), "options and labels differ in number"),
        (choices(["x", "y"], ["A", "B", "C"]), "options and labels differ in number"),
        (choices(["x", "y", "z"], ["A", "B", "B"]), "repeated label"),
        (choices(["x", "y", "z"], ["A", "B", "F"]), "labels are neither A to E nor 1 to 5"),
        (choices(["x", "y", "z"], ["A", "B", "3"]), "labels are neither A to E nor 1 to 5"),
        (choices(["x", "y", "z"], ["A", "B", None]), "labels are neither A to E nor 1 to 5"),
        (choices(["x", " ", "z"], ["A", "B", "C"]), "empty option"),
        (choices(["x", None, "z"], ["A", "B", "C"]), "empty option"),
    ],
)
def test_unusable_rows_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key(arc_row(**changes))


def test_generated_rows_make_every_split():
    config = task_config(name="arc", max_answer_tokens=2)
    data = load_task_data(
        config, data_config(num_train=48), Bytes(), splits=("train", "validation", "test")
    )
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 48,
        "validation": 10,
        "test": 5,
    }
    assert all(report.dropped == {} for report in data.preflight.splits.values())
    assert data.copy_baseline == {}


def test_real_rows(shared_data):
    config = task_config(name="arc", max_length_tokens=2048, max_answer_tokens=2)
    sizes = {"num_train": 1100, "num_validation": 290, "num_test": 1100}
    data = load_task_data(
        config,
        data_config(SourceKind.local, root=str(shared_data), **sizes),
        Bytes(),
        splits=("train", "validation", "test"),
    )
    answers = {example.answers[0] for example in data.splits["train"]}
    assert answers == set("ABCD1234")
    assert all(not report.dropped for report in data.preflight.splits.values())
    assert 0.2 < data.constant_baseline["accuracy"] < 0.35


def test_real_rows_have_both_label_styles(shared_data):
    rows = pq.read_table(shared_data / "arc_challenge" / "train.parquet").to_pylist()
    labels = {build_example(row, PlainBuild()).labels for row in rows}
    assert {("A", "B", "C", "D"), ("1", "2", "3", "4")} <= labels
