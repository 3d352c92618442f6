import pytest
from task_helpers import PlainBuild, encoded, make_row

from fseed.config.schema import MbppConfig
from fseed.tasks.base import RowProblem
from fseed.tasks.hotpot import HOTPOT, build_example, read_key
from fseed.tasks.sections import render_prompt

QUESTION = """Question:
In which harbour does the keeper named kappa7 moor lambda7?"""

CONTEXT = """Context:
Moss:
Moss grows on stone. It is green.
Alpha7:
Alpha7 is a keeper. Its friend is Beta7. It is old.
Beta7:
Beta7 moors in Port 7. It floats."""


@pytest.mark.parametrize(
    ("order", "golden"),
    [
        ("question_last", f"{CONTEXT}\n\n{QUESTION}\n\nAnswer:"),
        ("evidence_last", f"{QUESTION}\n\n{CONTEXT}\n\nAnswer:"),
    ],
)
def test_golden_prompt_and_score(order, golden):
    example = build_example(make_row(7), PlainBuild())
    assert render_prompt(example, HOTPOT.orders[order]) == golden
    gold = encoded(example.answers[0])
    texts = [["The Port"], ["port 7.", "a sample does not count"]]
    half, whole = HOTPOT.score_generation([gold, gold], texts, MbppConfig())
    assert half == {"exact_match": 0.0, "f1": pytest.approx(2 / 3)}
    assert whole == {"exact_match": 1.0, "f1": 1.0}


def test_evidence_goes_supporting_sentences_then_their_paragraphs_then_the_rest():
    section = build_example(make_row(7), PlainBuild()).sections["context"]
    assert section.ranking == ((1, 1), (2, 0), (1, 0), (2, 1), (1, 2), (0, 0), (0, 1))


def test_key_has_the_supporting_titles():
    key = read_key(make_row(7))
    assert key.row_id == "row7"
    assert key.groups == {"Alpha7", "Beta7"}


def test_white_space_is_collapsed_and_empty_sentences_keep_their_number():
    row = make_row(7, answer=" Port \n 7 ")
    row["context"]["sentences"][1] = ["Alpha7  is\na keeper.", "", " Its friend is Beta7."]
    row["supporting_facts"]["sent_id"] = [2, 0]
    example = build_example(row, PlainBuild())
    assert example.answers == ("Port 7",)
    text = render_prompt(example, ("context", "question"))
    assert "Alpha7:\nAlpha7 is a keeper. Its friend is Beta7.\n" in text
    assert (1, 1) not in example.sections["context"].ranking


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, "empty id"),
        ({"question": "  "}, "empty question"),
        ({"answer": None}, "empty answer"),
        ({"type": "other"}, "unknown type"),
        ({"supporting_facts": {"title": [], "sent_id": []}}, "no supporting facts"),
        ({"supporting_facts": None}, "no supporting facts"),
        (
            {"supporting_facts": {"title": ["Gone"], "sent_id": [0]}},
            "supporting paragraph missing from the context",
        ),
    ],
)
def test_unusable_keys_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key(make_row(7, **changes))


@pytest.mark.parametrize("number", [3, -1, None])
def test_supporting_sentence_outside_its_paragraph_is_refused(number):
    row = make_row(7, supporting_facts={"title": ["Alpha7"], "sent_id": [number]})
    with pytest.raises(RowProblem, match="supporting sentence missing"):
        build_example(row, PlainBuild())


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"title": ["Alpha7"], "sent_id": [0, 1]}, "supporting titles and sentence numbers"),
        ({"title": ["Alpha7"], "sent_id": None}, "supporting titles and sentence numbers"),
    ],
)
def test_supporting_lists_of_different_length_are_refused(facts, reason):
    with pytest.raises(RowProblem, match=reason):
        build_example(make_row(7, supporting_facts=facts), PlainBuild())


def test_titles_without_paragraphs_are_refused():
    row = make_row(7)
    row["context"]["sentences"].pop()
    with pytest.raises(RowProblem, match="titles and paragraphs differ in number"):
        build_example(row, PlainBuild())
