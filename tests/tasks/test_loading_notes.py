"""Notes and row generators as builders get them from a whole split."""

import re
from dataclasses import replace

import pytest
from task_helpers import Bytes, data_config, make_row, task_config, write_data, write_parquet

from fseed.config.schema import MbppConfig, SourceKind
from fseed.tasks.base import NoteRule, Paragraph, RowProblem, Section
from fseed.tasks.hotpot import HOTPOT, build_example
from fseed.tasks.loading import load
from fseed.tasks.registry import build_request

NUM_NOTES = 6
RUN = 4


def read_level(row, setting):
    """Return the column that the rows of this file use for their notes; row 5 has none."""
    if row["id"] == "row5":
        raise RowProblem("no note")
    return row["level"]


def read_context(row, setting):
    return " ".join(" ".join(sentences) for sentences in row["context"]["sentences"])


def noted(read):
    """Return HotpotQA with notes, and a random number as the reference."""

    def build(row, build):
        example = build_example(row, build)
        text = read(row | {"id": ""}, build.setting)
        notes = build.draw_notes(row["id"], num=NUM_NOTES, own=[text, *example.answers])
        section = Section("Notes", tuple(Paragraph(None, (note,)) for note in notes))
        return replace(
            example,
            sections=example.sections | {"notes": section},
            reference=str(build.generator(row["id"]).integers(10**9)),
        )

    return replace(
        HOTPOT,
        name="noted",
        orders={name: (*sections, "notes") for name, sections in HOTPOT.orders.items()},
        notes=NoteRule(read=read, run=RUN),
        build_example=build,
    )


NOTED = noted(read_level)


def load_noted(data, *, task=NOTED, order="question_last", splits=("train", "validation")):
    config = task_config(max_length_tokens=4000, order=order)
    request = replace(build_request(config, data, splits=splits), task=task)
    return load(request, Bytes(), scoring=MbppConfig())


def notes_of(example):
    body = bytes(example.prompt_ids).decode().partition("Notes:\n")[2]
    return body.removesuffix("\n\nAnswer:").split("\n")


def numbers_of(example):
    """Return the numbers of the rows whose notes the example has."""
    return [int(re.findall(r"Story (\d+) ", note)[0]) for note in notes_of(example)]


def make_story(number):
    story = f"Story {number} of keeper{number} under stone{number}."
    # the first three share a run of words, the last two hold the answer of row 10
    extras = dict.fromkeys((7, 8, 9), "One two, three FOUR.") | dict.fromkeys((11, 12), "Port 10!")
    return make_row(number, level=f"{story} {extras.get(number, 'End.')}")


@pytest.fixture
def local_data(tmp_path):
    root = write_data(tmp_path)
    for split, start in [("train", 0), ("validation", 1000)]:
        rows = [make_story(number) for number in range(start, start + 40)]
        write_parquet(root / "hotpotqa", split, rows)
    return data_config(SourceKind.local, root=str(root), num_train=40)


def test_notes_are_texts_of_other_rows_of_the_split(local_data):
    loaded = load_noted(local_data)
    for split, rows in [("train", range(40)), ("validation", range(1000, 1040))]:
        for example in loaded.splits[split]:
            numbers = numbers_of(example)
            assert len(set(numbers)) == NUM_NOTES
            assert set(numbers) <= set(rows) - {5, int(example.example_id[3:])}


def test_notes_never_hold_the_own_text_or_answer_of_the_example(local_data):
    train = load_noted(local_data).splits["train"]
    numbers = {example.example_id: set(numbers_of(example)) for example in train}
    assert numbers["row7"].isdisjoint({7, 8, 9})
    assert numbers["row8"].isdisjoint({7, 8, 9})
    assert numbers["row10"].isdisjoint({10, 11, 12})
    others = set().union(*(numbers[f"row{n}"] for n in range(20, 40)))
    assert {7, 8, 9, 11, 12} <= others


def test_notes_and_generators_depend_on_the_row_alone(local_data):
    """Order, other splits and the number of examples change nothing; the seed does."""
    plain = {e.example_id: e for e in load_noted(local_data).splits["train"]}
    few = replace(local_data, num_train=5)
    for data, order, splits in [
        (local_data, "evidence_last", ("train",)),
        (few, "question_last", ("train", "test")),
    ]:
        for example in load_noted(data, order=order, splits=splits).splits["train"]:
            assert notes_of(example) == notes_of(plain[example.example_id])
            assert example.reference == plain[example.example_id].reference
    assert len({example.reference for example in plain.values()}) == len(plain)
    for example in load_noted(replace(local_data, seed=1)).splits["train"]:
        assert notes_of(example) != notes_of(plain[example.example_id])
        assert example.reference != plain[example.example_id].reference


def test_more_generated_rows_change_no_note():
    task = noted(read_context)
    few, many = (load_noted(data_config(num_train=number), task=task) for number in (10, 40))
    assert few.splits["train"] == many.splits["train"][:10]


def test_generated_rows_share_no_run_of_words_with_their_notes():
    loaded = load_noted(data_config(num_train=30), task=noted(read_context))
    trusted = {}
    for split, examples in loaded.splits.items():
        for example in examples:
            text = bytes(example.prompt_ids).decode()
            own = text.partition("Context:\n")[2].partition("\n\nQuestion:")[0]
            own_runs = runs_of(re.sub(r"\w+:\n", "", own))
            assert own_runs
            assert all(own_runs.isdisjoint(runs_of(note)) for note in notes_of(example))
        notes = " ".join(" ".join(notes_of(example)) for example in examples)
        trusted[split] = set(re.findall(r"Trusts (\w+)", notes))
        assert len(trusted[split]) > 10
    assert trusted["train"].isdisjoint(trusted["validation"])


def runs_of(text):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def test_a_task_without_a_rule_has_no_notes():
    with pytest.raises(ValueError, match="task noted has no rule for notes"):
        load_noted(data_config(), task=replace(NOTED, notes=None))
