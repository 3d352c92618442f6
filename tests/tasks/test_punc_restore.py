import pyarrow.parquet as pq
import pytest
from task_helpers import Bytes, PlainBuild, data_config, encoded, task_config

from fseed.config.schema import MbppConfig, SourceKind
from fseed.errors import UserError
from fseed.tasks.base import RowProblem, Setting
from fseed.tasks.options import parse_options
from fseed.tasks.punc_restore import (
    DATASETS,
    PUNC_RESTORE,
    PuncRestoreOptions,
    build_example,
    read_clean,
    read_key,
)
from fseed.tasks.registry import load_task_data
from fseed.tasks.scoring import pool_metrics
from fseed.tasks.sections import render_prompt

CLEAN = '"It\'s 3.5 km," said Rilu.'
NOTES = ["Bako lives in Tan. Vemo doesn't.", "Who left?"]

TEXT_SECTION = """Text:
it's 3.5 km said rilu"""

NOTES_SECTION = """Notes:
Bako lives in Tan. Vemo doesn't.
Who left?"""


def make_build(notes=NOTES, *, order="filler_last", **changes):
    facts = {"num_notes": len(notes) or 1, "min_characters": 5, "max_characters": 60}
    options = PuncRestoreOptions(**(facts | changes))
    return PlainBuild(order=order, options=options, notes=notes)


@pytest.mark.parametrize(
    ("order", "golden"),
    [
        ("filler_last", f"{TEXT_SECTION}\n\n{NOTES_SECTION}\n\nAnswer:"),
        ("task_last", f"{NOTES_SECTION}\n\n{TEXT_SECTION}\n\nAnswer:"),
    ],
)
def test_golden_prompt(order, golden):
    example = build_example({"text": f"  {CLEAN}\n"}, make_build(order=order))
    assert render_prompt(example, PUNC_RESTORE.orders[order]) == golden
    assert example.answers == (CLEAN,)
    assert example.copied == "it's 3.5 km said rilu"


def test_golden_score():
    examples = [encoded(CLEAN), encoded("Who left?")]
    texts = [[" It's 3.5 km, said rilu"], [" Who left?"]]
    assert PUNC_RESTORE.score_generation is not None
    rows = PUNC_RESTORE.score_generation(examples, texts, MbppConfig())
    assert rows[0] == {
        # the comma of five marks
        "punctuation_f1": 2 / (2 + 3),
        "marks_restored": 1,
        "marks_spurious": 0,
        "marks_missing": 3,
        # It's, km, said of It's, km, said, Rilu; 3.5 has no case
        "casing_restored": 3,
        "casing_words": 4,
        # two quotes, the capital of Rilu, the full stop
        "edit_distance": 4,
        "clean_characters": 25,
    }
    assert set(rows[0]) == set(PUNC_RESTORE.generation_columns)
    scored = [{"kind": "text", **row} for row in rows]
    unscored = {"kind": "text", **dict.fromkeys(PUNC_RESTORE.generation_columns)}
    pooled = pool_metrics(PUNC_RESTORE.metrics, [*scored, unscored])
    assert pooled == {
        "punctuation_f1": {"value": pytest.approx((0.4 + 1) / 2), "n": 2},
        "punctuation_f1_pooled": {"value": pytest.approx(4 / 7), "n": 5},
        "casing_accuracy": {"value": 5 / 6, "n": 6},
        "character_error_rate": {"value": 4 / 34, "n": 34},
    }
    assert PUNC_RESTORE.primary_metric == "punctuation_f1"


def test_unscored_rows_have_no_pooled_f1():
    row = {"kind": "text", **dict.fromkeys(PUNC_RESTORE.generation_columns)}
    assert pool_metrics(PUNC_RESTORE.metrics, [row]) == {}


def test_notes_are_cut_by_sentences_from_the_back():
    example = build_example({"text": CLEAN}, make_build())
    order = PUNC_RESTORE.orders["filler_last"]
    assert "Notes:\nBako lives in Tan.\n\n" in render_prompt(example, order, num_kept=1)
    assert "Notes:\n\n" in render_prompt(example, order, num_kept=0)
    assert TEXT_SECTION in render_prompt(example, order, num_kept=0)


def test_id_is_a_hash_of_the_stored_text():
    key, other = read_key({"text": CLEAN}), read_key({"text": CLEAN + " "})
    assert key.row_id == read_key({"text": CLEAN}).row_id != other.row_id
    assert build_example({"text": CLEAN}, make_build()).example_id == key.row_id
    assert key.text == CLEAN


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty text"), (None, "empty text"), (" \n", "empty text"), (" = Bako = \n", "heading")],
)
def test_rows_without_a_text_say_why(text, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_key({"text": text})


@pytest.mark.parametrize(
    ("dataset", "text", "reason"),
    [
        ("ag_news", "Yes.", "text shorter than min_characters"),
        ("ag_news", "y" * 61, "text longer than max_characters"),
        ("ag_news", "?!.,;:--", "no word in the text"),
        ("ag_news", "Bako #39;s lamp", "markup in the text"),
        ("wikitext", "the Boys ' club", "quotation mark may open or close"),
        ("wikitext", 'one " quote', "odd number of quotation marks"),
    ],
)
def test_unusable_texts_say_why(dataset, text, reason):
    build = make_build(dataset=dataset)
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        build_example({"text": text}, build)
    # the same texts are no notes
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_clean({"text": text}, build.setting)


def test_too_few_notes_say_why():
    with pytest.raises(RowProblem, match=r"^too few notes in the split$"):
        build_example({"text": CLEAN}, make_build(num_notes=3))


@pytest.mark.parametrize(
    ("dataset", "clean"),
    [
        ("wikitext", 'He said, "Yes."'),
        ("ag_news", 'He said , " Yes . "'),
        ("text", 'He said , " Yes . "'),
    ],
)
def test_every_data_set_is_cleaned_by_its_own_rules(dataset, clean):
    row = {"text": 'He said , " Yes . "\n'}
    assert read_clean(row, make_build(dataset=dataset).setting) == clean


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_notes": 0}, "num_notes=0: must be 1..16"),
        ({"num_notes": 17}, "num_notes=17: must be 1..16"),
        ({"min_characters": 0}, "min_characters=0: must be at least 1"),
        (
            {"min_characters": 9, "max_characters": 8},
            "max_characters=8: must be at least min_characters=9",
        ),
        ({"dataset": "agnews"}, r"dataset=agnews: unknown for punc_restore; did you mean ag_news"),
    ],
)
def test_options_out_of_range_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        parse_options(PUNC_RESTORE, given)


def load(root=None, *, limits=(80, 220), dataset="ag_news", num_notes=1, **sizes):
    options = {
        "dataset": dataset,
        "num_notes": num_notes,
        "min_characters": limits[0],
        "max_characters": limits[1],
    }
    config = task_config(
        name="punc_restore",
        order="filler_last",
        max_length_tokens=3 * limits[1],
        max_answer_tokens=2 * limits[1],
        options=options,
    )
    source = SourceKind.mini if root is None else SourceKind.local
    folder = None if root is None else str(root)
    return load_task_data(
        config,
        data_config(source, root=folder, **sizes),
        Bytes(),
        splits=("train", "validation", "test"),
    )


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_generated_rows_make_every_split(dataset):
    data = load(dataset=dataset)
    assert [len(part) for part in data.splits.values()] == [20, 10, 5]
    assert all(report.dropped == {} for report in data.preflight.splits.values())
    for example in data.splits["train"]:
        prompt = bytes(example.prompt_ids).decode()
        assert prompt.startswith(f"Text:\n{example.copied}\n\nNotes:\n")
        assert example.answers[0] not in prompt


def test_copying_restores_no_mark_and_misses_a_few_characters():
    copied = load(num_validation=40).copy_baseline
    assert copied["punctuation_f1"] == copied["punctuation_f1_pooled"] == 0.0
    assert 0.5 < copied["casing_accuracy"] < 0.8
    assert 0.05 < copied["character_error_rate"] < 0.2


@pytest.mark.parametrize(
    ("dataset", "file", "leftovers", "reasons"),
    [
        ("ag_news", "ag_news/test", ["#39;", "\\", "&lt;"], {"markup in the text"}),
        (
            "wikitext",
            "text/wikitext2_raw_test",
            ["@-@", " ,", " .", "( ", " )"],
            {"empty text", "heading", "quotation mark may open or close"},
        ),
        ("text", "text/corpus_validation", ["\n"], {"text longer than max_characters"}),
    ],
)
def test_real_rows_are_used_or_dropped_with_a_reason(
    shared_data, dataset, file, leftovers, reasons
):
    rows = pq.read_table(shared_data / f"{file}.parquet", columns=["text"]).to_pylist()[:500]
    options = PuncRestoreOptions(dataset=dataset, min_characters=60, max_characters=1200)
    setting = Setting(split="train", order="filler_last", options=options, seed=0)
    clean, dropped = [], set()
    for row in rows:
        try:
            read_key(row)
            clean.append(read_clean(row, setting))
        except RowProblem as problem:
            dropped.add(str(problem))
    assert reasons <= dropped
    assert len(clean) > 120
    assert all(text == " ".join(text.split()) for text in clean)
    assert not any(leftover in text for text in clean for leftover in leftovers)


def test_real_wikitext_is_divided_from_validation(shared_data):
    data = load(
        shared_data,
        limits=(100, 1000),
        dataset="wikitext",
        num_train=100,
        num_validation=50,
        num_test=50,
    )
    dropped = data.preflight.splits["train"].dropped
    assert "empty text" not in dropped
    held_out = data.preflight.splits["validation"].dropped
    assert held_out["empty text"] > 1000
    assert held_out["heading"] > 500


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["ag_news", "text"])
def test_real_splits_share_no_text(shared_data, dataset):
    data = load(
        shared_data,
        limits=(60, 700),
        dataset=dataset,
        num_notes=4,
        num_train=300,
        num_validation=50,
        num_test=50,
    )
    answers = [{example.answers[0] for example in part} for part in data.splits.values()]
    assert [len(part) for part in answers] == [300, 50, 50]
    assert len(set().union(*answers)) == 400
    assert data.copy_baseline["punctuation_f1_pooled"] == 0.0
