import pyarrow.parquet as pq
import pytest
from task_helpers import Bytes, PlainBuild, data_config, encoded, task_config

from fseed.config.schema import MbppConfig, SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.options import parse_options
from fseed.tasks.registry import load_task_data
from fseed.tasks.sections import render_prompt
from fseed.tasks.sources import open_source
from fseed.tasks.splits import build_pools
from fseed.tasks.squad import (
    LONGFILL,
    SQUAD,
    LongfillOptions,
    build_longfill,
    build_squad,
    read_key,
)

CONTEXT = "The Bako fair was held in Tan.  Rilu sold 12 blue lamps. Vemo sold 7 red drums."

QUESTION = """Question:
What did Rilu sell?"""

RENDERED = """Context:
The Bako fair was held in Tan. Rilu sold 12 blue lamps. Vemo sold 7 red drums."""

NOTES = ["Sea_salt\nSalt is white. It melts ice.", "Moss\nMoss is green."]


def squad_row(**changes):
    row = {
        "id": "row7",
        "title": "Bako_fair",
        "context": CONTEXT,
        "question": " What did\nRilu sell?",
        "answers": {
            "text": ["blue lamps", "12 blue lamps", "blue lamps"],
            "answer_start": [45, 42, 45],
        },
    }
    return row | changes


def answers(texts, starts):
    return {"answers": {"text": texts, "answer_start": starts}}


def longfill_build(notes=NOTES):
    return PlainBuild(options=LongfillOptions(max_distractors=8), notes=notes)


@pytest.mark.parametrize(
    ("order", "golden"),
    [
        ("question_last", f"{RENDERED}\n\n{QUESTION}\n\nAnswer:"),
        ("evidence_last", f"{QUESTION}\n\n{RENDERED}\n\nAnswer:"),
    ],
)
def test_golden_prompt(order, golden):
    example = build_squad(squad_row(), PlainBuild(order=order))
    assert render_prompt(example, SQUAD.orders[order]) == golden
    assert example.answers == ("blue lamps", "12 blue lamps")


def test_golden_score_takes_the_best_gold_answer():
    example = encoded("blue lamps", answers=("blue lamps", "12 blue lamps"))
    texts = [" The 12 blue lamps.", "12 blue", "no"]
    assert SQUAD.score_generation is not None
    found = SQUAD.score_generation([example] * 3, [[text] for text in texts], MbppConfig())
    assert found == [
        {"exact_match": 1.0, "f1": 1.0},
        {"exact_match": 0.0, "f1": pytest.approx(0.8)},
        {"exact_match": 0.0, "f1": 0.0},
    ]
    assert SQUAD.primary_metric == "exact_match"


def test_context_is_cut_from_the_end_but_keeps_the_answer():
    example = build_squad(squad_row(), PlainBuild())
    order = SQUAD.orders["question_last"]
    assert example.num_essential == 1
    assert "Context:\nRilu sold 12 blue lamps.\n" in render_prompt(example, order, num_kept=1)
    assert "Context:\nThe Bako fair was held in Tan. Rilu sold 12 blue lamps.\n" in render_prompt(
        example, order, num_kept=2
    )


def test_answer_across_sentences_keeps_all_of_them():
    text = "lamps. Vemo"
    example = build_squad(squad_row(**answers([text], [CONTEXT.index(text)])), PlainBuild())
    assert example.num_essential == 2
    assert example.sections["context"].ranking == ((0, 1), (0, 2), (0, 0))


def test_key_holds_article_and_context_and_divides_by_article():
    key = read_key(squad_row())
    assert (key.row_id, key.text) == ("row7", "What did Rilu sell?")
    assert len(key.groups) == 2
    assert key.division == "article Bako_fair"
    # neither the spacing of a context nor a new article hides that it is the same
    other = read_key(
        squad_row(title="Other", context=CONTEXT.replace("  ", " "), **answers(["Tan"], [26]))
    )
    assert len(key.groups & other.groups) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, "empty id"),
        ({"title": None}, "empty title"),
        ({"context": " \n"}, "empty context"),
        ({"question": ""}, "empty question"),
        ({"answers": None}, "no answer"),
        (answers([], []), "no answer"),
        (answers(None, None), "no answer"),
        (answers(["blue lamps"], []), "answers and positions differ in number"),
        (answers([" "], [0]), "empty answer"),
        (answers([None], [0]), "empty answer"),
        (answers(["blue lamps"], [44]), "answer is not at its position"),
        (answers(["blue lamps"], [None]), "answer is not at its position"),
        (answers(["drums."], [-6]), "answer is not at its position"),
        (answers(["blue lamps"], [4500]), "answer is not at its position"),
        (answers(["blue lamps", "red lamps"], [45, 45]), "answer is not at its position"),
    ],
)
def test_unusable_rows_say_why(changes, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key(squad_row(**changes))


def test_longfill_puts_distractors_around_the_context():
    example = build_longfill(squad_row(), longfill_build())
    prompt = render_prompt(example, LONGFILL.orders["question_last"])
    head, _, tail = prompt.partition("\n\n")
    assert tail == f"{QUESTION}\n\nAnswer:"
    own = RENDERED.partition("\n")[2]
    assert head.startswith("Context:\n")
    # titles are not shown
    assert sorted(head.splitlines()[1:]) == ["Moss is green.", "Salt is white. It melts ice.", own]


def test_longfill_keeps_answer_then_context_then_one_distractor_after_the_other():
    example = build_longfill(squad_row(), longfill_build())
    section = example.sections["context"]
    assert section.ranking is not None
    ranked = [section.paragraphs[place].sentences[number] for place, number in section.ranking]
    assert ranked == [
        "Rilu sold 12 blue lamps.",
        "The Bako fair was held in Tan.",
        "Vemo sold 7 red drums.",
        "Salt is white.",
        "It melts ice.",
        "Moss is green.",
    ]
    assert example.num_essential == 1


def test_longfill_context_stands_anywhere_and_always_at_the_same_place_for_one_row():
    def place(row_id):
        example = build_longfill(squad_row(id=row_id), longfill_build())
        sentences = [paragraph.sentences[0] for paragraph in example.sections["context"].paragraphs]
        return sentences.index("The Bako fair was held in Tan.")

    places = [place(f"row{number}") for number in range(40)]
    assert set(places) == {0, 1, 2}
    assert places == [place(f"row{number}") for number in range(40)]


def test_longfill_needs_a_distractor():
    with pytest.raises(RowProblem, match="no distractor of another article without the answer"):
        build_longfill(squad_row(), longfill_build(notes=()))


@pytest.mark.parametrize("number", [0, 65])
def test_longfill_refuses_numbers_out_of_range(number):
    with pytest.raises(UserError, match=rf"task.options.max_distractors={number}: must be 1..64"):
        parse_options(LONGFILL, {"max_distractors": number})


def load(name, *, options=None, root=None, splits=("train", "validation", "test"), **sizes):
    source = SourceKind.mini if root is None else SourceKind.local
    limits = {"max_length_tokens": 1024, "max_answer_tokens": 120}
    config = task_config(name=name, options=options or {}, **limits)
    folder = None if root is None else str(root)
    return load_task_data(config, data_config(source, root=folder, **sizes), Bytes(), splits=splits)


def test_generated_rows_make_every_split_of_squad():
    data = load("squad", num_train=40)
    assert [len(part) for part in data.splits.values()] == [40, 10, 5]
    assert all(report.dropped == {} for report in data.preflight.splits.values())
    assert not any(example.is_cut for part in data.splits.values() for example in part)


def test_longfill_fills_generated_prompts_up_to_the_limit():
    data = load("longfill", options={"max_distractors": 16}, num_train=40)
    assert [len(part) for part in data.splits.values()] == [40, 10, 5]
    for example in data.splits["train"]:
        # a sentence of a generated article has at most 60 bytes
        assert 1024 - 60 <= len(example.prompt_ids) + len(example.answer_ids) <= 1024
        assert not example.lost_gold
        text = bytes(example.prompt_ids).decode()
        title = text.partition(" to the ")[2].partition(" fair?")[0]
        assert text.count(f"The {title} fair was held") == 1


def test_longfill_distractors_hold_no_answer_and_no_sentence_of_the_context():
    data = load("longfill", options={"max_distractors": 4}, num_train=60, splits=("train",))
    for example in data.splits["train"]:
        context = bytes(example.prompt_ids).decode().partition("\n\n")[0]
        assert context.count(f" {example.answers[-1]}") == 1


def test_real_splits_share_no_article_and_no_context(shared_data):
    source = open_source(
        SQUAD,
        data_config(SourceKind.local, root=str(shared_data)),
        order="question_last",
        options=None,
        splits=("train", "validation", "test"),
    )
    pools = build_pools(SQUAD, source)
    groups = {
        split: set().union(*(key.groups for _, key in pool.entries))
        for split, pool in pools.items()
    }
    assert groups["train"].isdisjoint(groups["validation"] | groups["test"])
    assert groups["validation"].isdisjoint(groups["test"])
    assert min(len(pool.entries) for pool in pools.values()) > 300
    assert all(not pool.dropped for pool in pools.values())


def test_real_contexts_keep_every_word_and_the_answer_in_their_first_sentences(shared_data):
    rows = pq.read_table(shared_data / "squad" / "validation.parquet").slice(0, 300).to_pylist()
    for row in rows:
        example = build_squad(row, PlainBuild())
        assert read_key(row).row_id == example.example_id
        section = example.sections["context"]
        assert section.ranking is not None
        assert " ".join(section.paragraphs[0].sentences) == " ".join(row["context"].split())
        kept = sorted(section.ranking[: example.num_essential])
        text = " ".join(section.paragraphs[place].sentences[number] for place, number in kept)
        assert example.answers[0] in text


def test_real_answers_survive_a_short_limit(shared_data):
    rows = pq.read_table(shared_data / "squad" / "train.parquet").slice(0, 200).to_pylist()
    examples = [
        encode_example(
            build_squad(row, PlainBuild()),
            SQUAD.orders["question_last"],
            tokenizer=Bytes(),
            max_length_tokens=1000,
            max_answer_tokens=400,
        )
        for row in rows
    ]
    assert sum(example.is_cut for example in examples) > 20
    assert not any(example.lost_gold for example in examples)
    assert all(example.answers[0] in bytes(example.prompt_ids).decode() for example in examples)


@pytest.mark.slow
def test_real_longfill_reaches_the_limit(shared_data):
    data = load(
        "longfill",
        options={"max_distractors": 16},
        root=shared_data,
        num_train=300,
        num_validation=100,
        num_test=100,
    )
    lengths = [
        len(example.prompt_ids) + len(example.answer_ids)
        for part in data.splits.values()
        for example in part
    ]
    assert max(lengths) <= 1024
    # the next sentence of a distractor did not fit, and few of them are longer than this
    assert sorted(lengths)[len(lengths) // 20] > 650
