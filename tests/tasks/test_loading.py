"""Loading as a whole: counts, choice of rows, limits, and every fault with its message."""

import json
import time

import pytest
from task_helpers import (
    Bytes,
    Words,
    data_config,
    make_row,
    make_rows,
    task_config,
    write_data,
    write_jsonl,
    write_parquet,
    write_with_broken_text,
)

from fseed.config.schema import SourceKind
from fseed.errors import UserError
from fseed.tasks.preflight import render
from fseed.tasks.registry import check_data, data_fingerprint, load_task_data

ALL_SPLITS = ("train", "validation", "test")


def load(data, *, splits=("train", "validation"), tokenizer=None, **changes):
    return load_task_data(task_config(**changes), data, tokenizer or Bytes(), splits=splits)


def local(root, **changes):
    return data_config(SourceKind.local, root=str(root), **changes)


def prompt_of(example):
    return bytes(example.prompt_ids).decode()


def ids(examples):
    return [example.example_id for example in examples]


def test_mini_has_the_wanted_sizes_and_plain_reports():
    data = data_config()
    loaded = load(data, splits=ALL_SPLITS)
    assert {name: len(split) for name, split in loaded.splits.items()} == {
        "train": 20,
        "validation": 10,
        "test": 5,
    }
    assert loaded.data_hash == data_fingerprint(task_config(), data)
    report = json.loads(json.dumps(loaded.preflight.as_dict()))
    assert report["source"] == "mini"
    assert report["order"] == "question_last"
    assert report["splits"]["train"]["kinds"] == {"bridge": 12, "comparison": 8}
    assert report["splits"]["train"]["dropped"] == {}
    lengths = [len(example.prompt_ids) for example in loaded.splits["train"]]
    assert report["splits"]["train"]["prompt_tokens"]["max"] == max(lengths)
    assert "train: 20 examples (12 bridge, 8 comparison) of 20 rows" in render(loaded.preflight)
    assert 0.0 < loaded.constant_baseline["token_accuracy"] < 0.6


@pytest.mark.parametrize(("order", "first"), [("q_after", "Context"), ("q_first", "Question")])
def test_aliases_of_orders_are_resolved(order, first):
    loaded = load(data_config(), order=order)
    assert all(prompt_of(e).startswith(first) for e in loaded.splits["train"])


def test_orders_show_the_same_examples():
    left, right = (load(data_config(), order=order) for order in ("question_last", "evidence_last"))
    for split in ("train", "validation"):
        assert ids(left.splits[split]) == ids(right.splits[split])
        for one, other in zip(left.splits[split], right.splits[split], strict=True):
            assert sorted(one.prompt_ids) == sorted(other.prompt_ids)
            assert one.answer_ids == other.answer_ids


def test_choice_depends_on_the_seed_and_more_extend_it(tmp_path):
    root = write_data(tmp_path)
    few, again, many, other = (
        load(local(root, num_train=number, seed=seed)).splits
        for number, seed in [(10, 0), (10, 0), (30, 0), (10, 1)]
    )
    assert ids(few["train"]) == ids(again["train"]) == ids(many["train"])[:10]
    assert ids(few["train"]) != ids(other["train"])
    assert ids(few["train"]) != sorted(ids(few["train"]))
    assert len(set(ids(many["train"]))) == 30


def test_three_splits_come_from_two_files(tmp_path):
    loaded = load(local(write_data(tmp_path)), splits=ALL_SPLITS)
    sets = [set(ids(loaded.splits[split])) for split in ALL_SPLITS]
    assert [len(each) for each in sets] == [20, 10, 5]
    assert len(set().union(*sets)) == 35


def test_rows_that_cannot_be_encoded_are_replaced_and_counted(tmp_path):
    root = write_data(tmp_path)
    rows = make_rows(0, 40)
    rows[:4] = [make_row(n, answer="x" * 60) for n in range(4)]
    rows[4]["supporting_facts"]["sent_id"] = [9, 0]
    rows[5] = make_row(5, question="long " * 80)
    write_parquet(root / "hotpotqa", "train", rows)
    loaded = load(local(root, num_train=34))
    assert len(loaded.splits["train"]) == 34
    report = loaded.preflight.splits["train"]
    assert report.dropped == {
        "answer longer than 48 tokens": 4,
        "prompt does not fit even with the evidence cut": 1,
        "supporting sentence missing from its paragraph": 1,
    }
    assert "dropped: 4 answer longer than 48 tokens" in render(loaded.preflight)


def test_cut_examples_and_lost_sentences_are_counted(tmp_path):
    data = local(write_data(tmp_path))
    cut = load(data, max_length_tokens=200).preflight.splits["train"]
    assert (cut.num_cut, cut.num_lost_gold) == (20, 0)
    lost = load(data, max_length_tokens=150)
    report = lost.preflight.splits["train"]
    assert report.num_lost_gold == 20 == report.num_cut
    assert "20 of them lost a supporting sentence" in render(lost.preflight)


def test_lengths_hold_for_tokens_longer_than_bytes(tmp_path):
    loaded = load(local(write_data(tmp_path)), tokenizer=Words(), max_length_tokens=40)
    for example in loaded.splits["train"]:
        assert len(example.prompt_ids) + len(example.answer_ids) <= 40
        assert example.is_cut


def test_too_few_rows_say_wanted_found_and_what_to_lower(tmp_path):
    data = local(write_data(tmp_path), num_train=900)
    messages = []
    for call in (lambda: check_data(task_config(), data), lambda: load(data)):
        with pytest.raises(UserError) as caught:
            call()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "data.num_train=900 examples wanted, 40 found in 40 rows" in messages[0]
    assert "Lower data.num_train to at most 40" in messages[0]


def test_too_few_rows_after_encoding_name_the_reasons(tmp_path):
    data = local(write_data(tmp_path))
    with pytest.raises(UserError, match=r"0 found .* 40 answer longer than 2 tokens") as caught:
        load(data, max_answer_tokens=2)
    assert "task.max_answer_tokens" in str(caught.value)


def test_a_split_that_is_not_asked_for_may_be_too_small(tmp_path):
    data = local(write_data(tmp_path), num_test=900)
    check_data(task_config(), data)
    assert set(load(data).splits) == {"train", "validation"}
    with pytest.raises(UserError, match=r"data\.num_test=900"):
        check_data(task_config(), data, splits=ALL_SPLITS)


def test_empty_files_are_too_few_rows(tmp_path):
    root = write_data(tmp_path, num_validation=0)
    (root / "hotpotqa" / "validation.parquet").unlink()
    (root / "hotpotqa" / "validation.jsonl").write_text("\n")
    with pytest.raises(
        UserError, match=r"data\.num_validation=10 examples wanted, 0 found in 0 rows"
    ):
        check_data(task_config(), local(root))


@pytest.mark.parametrize("source", [SourceKind.mini, SourceKind.local])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 0}, "data.num_train=0: must be at least 1 example"),
        ({"num_validation": -3}, "data.num_validation=-3"),
        ({"seed": -1}, "data.seed=-1: must not be negative"),
    ],
)
def test_sizes_and_seed_out_of_range(source, changes, message):
    with pytest.raises(UserError, match=message):
        check_data(task_config(), data_config(source, **changes))
    with pytest.raises(UserError, match=message):
        load(data_config(source, **changes))


def test_unknown_split():
    with pytest.raises(UserError, match="split dev: unknown"):
        load(data_config(), splits=("dev",))


def test_no_baseline_without_train():
    assert load(data_config(), splits=("test",)).constant_baseline == {}


def test_repeated_ids_do_not_reach_the_examples(tmp_path):
    root = write_data(tmp_path)
    write_parquet(root / "hotpotqa", "train", make_rows(0, 30) * 2)
    loaded = load(local(root, num_train=30))
    assert len(set(ids(loaded.splits["train"]))) == 30
    assert loaded.preflight.splits["train"].dropped == {"repeated id": 30}


@pytest.mark.parametrize("column", ["question", "level"])
def test_rows_that_are_no_utf8_are_counted_as_malformed(tmp_path, column):
    """``question`` is a key and shows at once, ``level`` when the row is encoded."""
    root = write_data(tmp_path)
    write_with_broken_text(root / "hotpotqa", "train", column=column, at=3, count=30)
    data = local(root, num_train=29)
    check_data(task_config(), data)
    loaded = load(data)
    assert set(ids(loaded.splits["train"])) == {f"row{n}" for n in range(30) if n != 3}
    assert loaded.preflight.splits["train"].dropped == {"malformed row": 1}


def test_json_lines_that_are_no_utf8_are_counted_as_malformed(tmp_path):
    root = write_data(tmp_path)
    folder = root / "hotpotqa"
    (folder / "train.parquet").unlink()
    write_jsonl(folder, "train", make_rows(0, 25))
    with (folder / "train.jsonl").open("ab") as stream:
        stream.write(b'{"id": "\xff"}\n{"id": "\\ud800"}\n')
    loaded = load(local(root))
    assert loaded.preflight.splits["train"].dropped == {"malformed row": 2}


def test_a_misspelt_option_names_the_known_ones():
    with pytest.raises(UserError, match=r"num_key=9: unknown for kvsort; did you mean num_keys\?"):
        load(data_config(), name="kvsort", order="plain", options={"num_key": 9})


def test_real_data_at_4096_tokens_loads_in_seconds(shared_data):
    data = local(shared_data, num_train=1000, num_validation=200, num_test=200)
    begin = time.monotonic()
    loaded = load(data, max_length_tokens=4096)
    # seconds on an idle core; the bound only catches a change of complexity
    assert time.monotonic() - begin < 30
    for examples in loaded.splits.values():
        assert all(len(e.prompt_ids) + len(e.answer_ids) <= 4096 for e in examples)
        assert all(prompt_of(e).endswith("\n\nAnswer:") for e in examples)
    report = loaded.preflight.splits["train"]
    assert report.num_lost_gold == 0
    assert report.overlap == {"shared gold paragraph": 53}
    assert loaded.constant_baseline["exact_match"] < 0.1
