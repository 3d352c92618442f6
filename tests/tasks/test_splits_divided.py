"""Splits that the published data lacks, groups, clusters and overlap, on bare keys."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_helpers import assert_disjoint, row_ids

from fseed.tasks.base import RowKey, RowProblem
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.rows import ListRows
from fseed.tasks.sources import SPLITS, Source
from fseed.tasks.splits import (
    HELD_OUT_SHARE,
    build_pools,
    division_of,
    hash_fraction,
    is_test_id,
)


def read_plain_key(row):
    if row["id"] == "bad":
        raise RowProblem("bad row")
    return RowKey(
        row_id=row["id"],
        text=row.get("text", ""),
        groups=frozenset(row.get("groups", ())),
        sequence=row.get("sequence", ""),
        division=row.get("division"),
    )


PLAIN = replace(HOTPOT, read_key=read_plain_key)


def plain_pools(*, task=PLAIN, is_generated=False, **rows):
    source = {split: ListRows(rows[split], {"id": "string"}) for split in rows}
    return build_pools(task, Source(source, is_generated=is_generated))


def plain_rows(start, stop, **facts):
    return [{"id": f"p{number}"} | facts for number in range(start, stop)]


def share(pools):
    return {split: row_ids(pool) for split, pool in pools.items()}


def select(rows, belongs):
    return {row["id"] for row in rows if belongs(row["id"])}


TRAIN_ROWS, VALIDATION_ROWS, TEST_ROWS = (
    plain_rows(0, 200),
    plain_rows(200, 400),
    plain_rows(400, 600),
)


def in_test(name):
    return hash_fraction(name) < HELD_OUT_SHARE


def in_validation(name):
    return hash_fraction(name) >= 1 - HELD_OUT_SHARE


def test_published_splits_are_kept_whatever_their_order():
    pools = plain_pools(test=TEST_ROWS, train=TRAIN_ROWS, validation=VALIDATION_ROWS)
    assert list(pools) == ["train", "validation", "test"]
    rows = {"train": TRAIN_ROWS, "validation": VALIDATION_ROWS, "test": TEST_ROWS}
    assert share(pools) == {split: {row["id"] for row in rows[split]} for split in rows}


def test_both_held_out_splits_come_from_train_alone():
    pools = plain_pools(train=TRAIN_ROWS)
    assert share(pools) == {
        "train": select(TRAIN_ROWS, lambda name: not (in_test(name) or in_validation(name))),
        "validation": select(TRAIN_ROWS, in_validation),
        "test": select(TRAIN_ROWS, in_test),
    }
    assert all(15 <= len(row_ids(pools[split])) <= 45 for split in ("validation", "test"))


def test_missing_validation_comes_from_train():
    pools = plain_pools(train=TRAIN_ROWS, test=TEST_ROWS)
    assert share(pools) == {
        "train": select(TRAIN_ROWS, lambda name: not in_validation(name)),
        "validation": select(TRAIN_ROWS, in_validation),
        "test": {row["id"] for row in TEST_ROWS},
    }


def test_missing_test_is_half_of_validation():
    pools = plain_pools(train=TRAIN_ROWS, validation=VALIDATION_ROWS)
    assert share(pools) == {
        "train": {row["id"] for row in TRAIN_ROWS},
        "validation": select(VALIDATION_ROWS, lambda name: not is_test_id(name)),
        "test": select(VALIDATION_ROWS, is_test_id),
    }


def test_missing_train_is_most_of_validation():
    pools = plain_pools(validation=VALIDATION_ROWS, test=TEST_ROWS)
    assert share(pools) == {
        "train": select(VALIDATION_ROWS, lambda name: not in_test(name)),
        "validation": select(VALIDATION_ROWS, in_test),
        "test": {row["id"] for row in TEST_ROWS},
    }


def test_validation_alone_gives_all_three():
    pools = plain_pools(validation=VALIDATION_ROWS)
    rest = [row for row in VALIDATION_ROWS if not is_test_id(row["id"])]
    assert share(pools) == {
        "train": select(rest, lambda name: not in_test(name)),
        "validation": select(rest, in_test),
        "test": select(VALIDATION_ROWS, is_test_id),
    }
    assert min(len(row_ids(pool)) for pool in pools.values()) >= 5


def test_generated_splits_are_never_divided():
    assert set(plain_pools(train=TRAIN_ROWS, is_generated=True)) == {"train"}


@pytest.mark.parametrize("published", [("train",), ("train", "validation"), ("validation",)])
def test_the_split_of_a_row_depends_on_no_other_row(published):
    *others, divided = published
    fixed = dict.fromkeys(others, TEST_ROWS)
    few = TRAIN_ROWS[50:90]
    whole, part = (plain_pools(**fixed, **{divided: rows}) for rows in (TRAIN_ROWS, few))
    wanted = {row["id"] for row in few}
    for split in whole:
        assert row_ids(part[split]) & wanted == row_ids(whole[split]) & wanted


def test_rows_of_one_group_stay_together_when_a_split_is_divided():
    rows = [row | {"groups": [f"g{number // 5}"]} for number, row in enumerate(TRAIN_ROWS)]
    pools = plain_pools(train=rows)
    assert not any(pool.overlap for pool in pools.values())
    assert sum(len(row_ids(pool)) for pool in pools.values()) == len(rows)
    sizes = Counter(len(row_ids(pools[split])) % 5 for split in pools)
    assert sizes == {0: 3}
    assert row_ids(pools["test"]) == {row["id"] for row in rows if in_test(row["groups"][0])}


def test_what_decides_the_split_of_a_row():
    def division(**facts):
        return division_of(RowKey(row_id="id", **facts))

    assert division() == "id"
    assert division(groups=frozenset({"g"})) == "g"
    assert division(groups=frozenset({"g", "h"})) == "id"
    assert division(groups=frozenset({"g"}), division="d") == "d"
    assert division(division="") == ""


def test_groups_that_a_division_by_id_tears_apart_leave_no_overlap():
    rows = [
        row | {"groups": [f"g{number // 5}", f"h{number}"]} for number, row in enumerate(TRAIN_ROWS)
    ]
    pools = plain_pools(train=rows)
    assert pools["train"].overlap["shared gold paragraph"] > 20
    assert pools["validation"].overlap["shared gold paragraph"] > 0
    assert not pools["test"].overlap
    assert_disjoint(pools)


def test_rows_without_text_or_groups_overlap_only_by_id():
    pools = plain_pools(
        train=[{"id": "a"}, {"id": "b"}], validation=[{"id": "c"}], test=[{"id": "b"}]
    )
    assert share(pools) == {"train": {"a"}, "validation": {"c"}, "test": {"b"}}
    assert pools["train"].overlap == {"shared id": 1}


def test_texts_are_compared_only_where_there_are_any():
    same = {"text": "one and the same text"}
    pools = plain_pools(
        train=[{"id": "a"} | same, {"id": "b"}], validation=[{"id": "c"}], test=[{"id": "d"} | same]
    )
    assert share(pools)["train"] == {"b"}
    assert pools["train"].overlap == {"shared question": 1}


def test_rows_that_were_dropped_count_with_the_split_that_was_divided():
    rows = [*TRAIN_ROWS, {"id": "bad"}, {"id": "p3"}, {"other": 1}]
    pools = plain_pools(train=rows)
    assert pools["train"].dropped == {"bad row": 1, "repeated id": 1, "malformed row": 1}
    assert not pools["validation"].dropped
    assert not pools["test"].dropped
    assert sum(pool.num_rows for pool in pools.values()) == len(rows)


def first_letters(sequences):
    return [sequence[0] for sequence in sequences]


CLUSTERED = replace(PLAIN, cluster=first_letters, shared="shared cluster")


def test_clusters_are_found_over_all_splits_at_once():
    asked = []

    def cluster(sequences):
        asked.append(list(sequences))
        return first_letters(sequences)

    pools = plain_pools(
        task=replace(CLUSTERED, cluster=cluster),
        train=[{"id": "a", "sequence": "AB"}, {"id": "c", "sequence": "CD"}],
        validation=[{"id": "e", "sequence": "AE"}, {"id": "f", "sequence": "FG"}],
        test=[{"id": "t", "sequence": "AT", "groups": ["x"]}],
    )
    assert asked == [["AB", "CD", "AE", "FG", "AT"]]
    assert share(pools) == {"train": {"c"}, "validation": {"f"}, "test": {"t"}}
    assert pools["train"].overlap == pools["validation"].overlap == {"shared cluster": 1}
    ((_, key),) = pools["test"].entries
    assert key == RowKey(row_id="t", groups=frozenset({"x", "A"}))
    assert_disjoint(pools)


def test_a_cluster_stays_together_when_a_split_is_divided():
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    rows = [
        {"id": f"{letter}{number}", "sequence": f"{letter}{number}"}
        for letter in letters
        for number in range(4)
    ]
    pools = plain_pools(task=CLUSTERED, train=rows)
    assert sum(len(row_ids(pool)) for pool in pools.values()) == len(rows)
    for split, belongs in [("test", in_test), ("validation", in_validation)]:
        kept = {letter for letter in letters if belongs(letter)}
        assert kept
        assert row_ids(pools[split]) == {row["id"] for row in rows if row["id"][0] in kept}


@st.composite
def sources(draw):
    """Return rows of one to three published splits that share ids, texts and groups."""
    letters = st.sampled_from("abcdefgh")
    row = st.fixed_dictionaries(
        {"id": st.integers(0, 40).map(str)},
        optional={
            "text": st.lists(letters, max_size=2).map(" ".join),
            "groups": st.sets(letters, max_size=2),
            "sequence": letters,
            "division": letters,
        },
    )
    published = draw(st.sampled_from(["train", "train validation", "train test", "validation"]))
    return {split: draw(st.lists(row, max_size=12)) for split in published.split()}


@given(sources(), st.sampled_from([PLAIN, replace(PLAIN, cluster=list)]))
def test_whatever_is_published_the_splits_are_disjoint_and_no_row_is_lost(rows, task):
    pools = plain_pools(task=task, **rows)
    assert set(pools) == set(SPLITS)
    assert_disjoint(pools)
    assert not pools["test"].overlap
    assert sum(pool.num_rows for pool in pools.values()) == sum(map(len, rows.values()))
