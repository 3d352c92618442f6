"""Differences between two runs, from records on disk and from bare settings."""

from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_run
from fseed.results.differences.runs import (
    ABSENT,
    Difference,
    Sample,
    compare,
    differing_groups,
    same,
)
from fseed.results.runs import Run, load_run
from tests.results.builders import RunSpec, finish_run, start_run


def load(root: Path, spec: RunSpec) -> Run:
    return load_run(read_run(finish_run(root, spec)))


def test_an_arm_and_its_baseline_differ_in_future_seed_alone(tmp_path: Path) -> None:
    arm, baseline = load(tmp_path, RunSpec(arm="scalar_l10")), load(tmp_path, RunSpec())
    found = differing_groups(baseline, arm)
    assert found["fs"][0] == Difference("fs.mode", "no_fs", "prompt_fs")
    assert list(found) == ["fs", "volatile"]
    volatile = {difference.key for difference in found["volatile"]}
    assert volatile == {"provenance.run_id", "provenance.arm_key"}


def test_differences_come_by_group_in_a_fixed_order(tmp_path: Path) -> None:
    changes = {"optim.lr": 1e-4, "budget.steps": 80, "data.num_train": 9, "output.root": "/o"}
    provenance = {"code_hash": "e" * 64, "versions": {"torch": "2.7"}}
    left, right = RunSpec(), RunSpec(seed=3, changes=changes, provenance=provenance)
    found = differing_groups(load(tmp_path, left), load(tmp_path, right))
    groups = ["seed", "budget", "data", "optimiser", "environment", "code", "volatile"]
    assert list(found) == groups
    assert found["budget"] == [Difference("budget.steps", 40, 80)]
    assert found["seed"] == [Difference("seed", 0, 3)]
    assert found["environment"] == [Difference("provenance.versions.torch", "2.6", "2.7")]
    assert found["code"] == [Difference("provenance.code_hash", "c" * 64, "e" * 64)]
    assert Difference("output.root", None, "/o") in found["volatile"]


def test_a_run_and_itself_do_not_differ(tmp_path: Path) -> None:
    run = load(tmp_path, RunSpec(arm="raw_l10"))
    assert differing_groups(run, run) == {}


def test_provenance_counts_only_where_both_have_some(tmp_path: Path) -> None:
    path = start_run(tmp_path, RunSpec())
    whole = load_run(read_run(path))
    (path / "provenance.json").unlink()
    assert differing_groups(whole, load_run(read_run(path))) == {}


def test_keys_that_one_side_lacks_are_absent() -> None:
    left, right = {"budget.steps": 4, "budget.test": None}, {"budget.steps": 4, "optim.lr": 0.1}
    assert compare(Sample(left, {}), Sample(right, {})) == {
        "budget": [Difference("budget.test", None, ABSENT)],
        "optimiser": [Difference("optim.lr", ABSENT, 0.1)],
    }


def test_options_that_neither_run_reads_are_volatile() -> None:
    plain, seeded = {"fs.mode": "no_fs"}, {"fs.mode": "prompt_fs"}
    found = compare(Sample({**plain, "lstart": 8}, {}), Sample({**plain, "lstart": 9}, {}))
    assert list(found) == ["volatile"]
    found = compare(Sample({**seeded, "lstart": 8}, {}), Sample({**seeded, "lstart": 9}, {}))
    assert list(found) == ["fs"]
    found = compare(Sample({**plain, "lstart": 8}, {}), Sample({**seeded, "lstart": 9}, {}))
    assert [difference.key for difference in found["fs"]] == ["fs.mode", "lstart"]


def test_nested_provenance_is_followed_to_its_leaves() -> None:
    left: dict[str, Any] = {"sandbox": None, "device": {"kind": "cpu", "threads": 2}}
    right: dict[str, Any] = {"sandbox": {"level": "full"}, "device": {"kind": "gpu", "threads": 4}}
    found = compare(Sample({}, left), Sample({}, right))
    assert found["environment"] == [
        Difference("provenance.sandbox.level", ABSENT, "full"),
        Difference("provenance.device.kind", "cpu", "gpu"),
    ]
    assert found["volatile"] == [Difference("provenance.device.threads", 2, 4)]


def test_the_moment_of_a_run_is_no_property_of_it() -> None:
    left = {"code_hash": "a", "started_at": "2026", "attempts": [{"started_at": "2026"}]}
    right = {"code_hash": "a", "started_at": "2027", "attempts": []}
    assert compare(Sample({}, left), Sample({}, right)) == {}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (0, False, False),
        (None, ABSENT, False),
        (float("nan"), float("nan"), True),
        ([1, 2], [1, 3], False),
        ("a", "a", True),
    ],
)
def test_same(left: Any, right: Any, expected: bool) -> None:
    assert same(left, right) is expected
    assert same(right, left) is expected
