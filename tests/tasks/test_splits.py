from task_helpers import assert_disjoint, data_config, make_row, make_rows, row_ids

from fseed.config.schema import SourceKind
from fseed.tasks.base import NoOptions
from fseed.tasks.hotpot import DISTRACTOR, HOTPOT
from fseed.tasks.rows import ListRows
from fseed.tasks.sources import SPLITS, Source, open_source
from fseed.tasks.splits import build_pools, is_test_id


def pools_of(train, validation):
    rows = {
        "train": ListRows(train, DISTRACTOR.columns),
        "validation": ListRows(validation, DISTRACTOR.columns),
    }
    return build_pools(HOTPOT, Source(rows, is_generated=False))


def open_hotpot(data):
    return open_source(HOTPOT, data, order="question_last", options=NoOptions(), splits=SPLITS)


HELD_OUT = make_rows(1000, 1040)
VALIDATION_ROW = next(row for row in HELD_OUT if not is_test_id(row["id"]))
TEST_ROW = next(row for row in HELD_OUT if is_test_id(row["id"]))


def test_validation_rows_are_divided_by_their_id_alone():
    pools = pools_of(make_rows(0, 40), HELD_OUT)
    assert row_ids(pools["validation"]) | row_ids(pools["test"]) == {row["id"] for row in HELD_OUT}
    assert row_ids(pools["test"]) == {row["id"] for row in HELD_OUT if is_test_id(row["id"])}
    again = pools_of(make_rows(0, 3), HELD_OUT[::-1][:20])
    assert row_ids(again["test"]) <= row_ids(pools["test"])
    assert 8 <= len(row_ids(pools["test"])) <= 32
    assert_disjoint(pools)


def test_train_rows_that_overlap_with_a_held_out_row_are_dropped_and_counted():
    question = VALIDATION_ROW["question"]
    train = [
        make_row(0),
        make_row(1, id=TEST_ROW["id"]),
        make_row(2, question=question.upper().replace("?", " !")),
        make_row(3, question="moor " + question.replace("moor ", "") + " in"),
        make_row(
            4,
            supporting_facts={"title": ["Alpha4"], "sent_id": [0]},
            context={"title": ["Alpha4", "Moss"], "sentences": [["a"], ["b"]]},
        ),
        make_row(5, supporting_facts=TEST_ROW["supporting_facts"], context=TEST_ROW["context"]),
    ]
    pools = pools_of(train, HELD_OUT)
    assert row_ids(pools["train"]) == {"row0", "row4"}
    assert pools["train"].overlap == {
        "shared id": 1,
        "shared question": 1,
        "near-duplicate question": 1,
        "shared gold paragraph": 1,
    }
    assert pools["train"].num_rows == 6
    assert not pools["validation"].overlap
    assert not pools["test"].overlap
    assert_disjoint(pools)


def test_validation_gives_way_to_test():
    double = make_row(
        0,
        id=VALIDATION_ROW["id"],
        supporting_facts=TEST_ROW["supporting_facts"],
        context=TEST_ROW["context"],
    )
    pools = pools_of(make_rows(0, 3), [TEST_ROW, double])
    assert row_ids(pools["test"]) == {TEST_ROW["id"]}
    assert pools["validation"].overlap == {"shared gold paragraph": 1}


def test_shared_distractors_are_no_overlap():
    """Every row has the distractor Moss."""
    assert not pools_of(make_rows(0, 10), HELD_OUT)["train"].overlap


def test_bad_and_repeated_rows_are_dropped_and_counted():
    train = [make_row(0), make_row(0), make_row(1, answer=""), {"id": "x"}, make_row(2, type="?")]
    pool = pools_of(train, HELD_OUT)["train"]
    assert row_ids(pool) == {"row0"}
    assert pool.dropped == {
        "repeated id": 1,
        "empty answer": 1,
        "malformed row": 1,
        "unknown type": 1,
    }
    assert pool.num_rows == 5


def test_generated_splits_do_not_overlap():
    data = data_config(SourceKind.mini, num_train=400, num_validation=100, num_test=100)
    pools = build_pools(HOTPOT, open_hotpot(data))
    assert {name: len(pool.entries) for name, pool in pools.items()} == {
        "train": 400,
        "validation": 100,
        "test": 100,
    }
    assert not any(pool.overlap or pool.dropped for pool in pools.values())
    assert_disjoint(pools)


def test_real_splits_do_not_overlap(shared_data):
    data = data_config(SourceKind.local, root=str(shared_data))
    pools = build_pools(HOTPOT, open_hotpot(data))
    assert pools["validation"].num_rows + pools["test"].num_rows == 600
    assert pools["train"].overlap["shared gold paragraph"] == 53
    assert not any(pool.dropped for pool in pools.values())
    assert_disjoint(pools)
