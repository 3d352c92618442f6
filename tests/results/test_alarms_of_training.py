import json
from pathlib import Path
from typing import Any

import pytest

from fseed.records import find_runs
from fseed.results.alarms_of_training import find_training_alarms, group_paths
from fseed.results.collection import collect_runs
from fseed.results.runs import load_run
from tests.results.builders import RunSpec, fail_run, finish_run

ARM = RunSpec(arm="scalar_l10")
STILL = ((0.1, 0.2), (0.1, 0.2))


def alarms_of(root: Path) -> list[str]:
    return find_training_alarms([load_run(record) for record in find_runs([root])])


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha.lr": 5e-4},
        {"fs_variant.gate": "head", "fs_variant.head_lr": 5e-4},
        {"fs_variant.gate": "inputgate", "fs_variant.input_lr": 5e-4},
    ],
)
def test_a_trainable_gate_that_stands_still_is_told(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = finish_run(tmp_path, ARM.with_(gates=STILL, changes=changes))
    assert alarms_of(tmp_path) == [f"trainable gates did not move at all: {path}"]


def test_gates_that_stand_still_in_part_are_counted(tmp_path: Path) -> None:
    spec = ARM.with_(gates=((0.1, 0.2), (0.1, 0.3)), changes={"alpha.lr": 5e-4})
    path = finish_run(tmp_path, spec)
    assert alarms_of(tmp_path) == [f"1 of 2 trainable gates did not move: {path}"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="frozen"),
        pytest.param({"fs_variant.head_lr": 5e-4}, id="of another gate"),
        pytest.param({"alpha.lr": 5e-4, "fs.mode": "no_fs"}, id="not there"),
        pytest.param({"alpha.lr": 5e-4, "control.kind": "aa"}, id="strength 0"),
    ],
)
def test_gates_that_are_not_trained_may_stand_still(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    finish_run(tmp_path, ARM.with_(gates=STILL, changes=changes))
    assert alarms_of(tmp_path) == []


def test_a_clip_out_of_reach_is_told_with_its_numbers(tmp_path: Path) -> None:
    first = finish_run(tmp_path, ARM.with_(gates=((0.02,), (0.03,))))
    second = finish_run(tmp_path, ARM.with_(seed=1, gates=((0.02,), (0.025,))))
    assert alarms_of(tmp_path) == [
        f"fs_variant.clip=1 can never bind: gate x head size = 0.96 at most: {first}, {second}"
    ]


def test_a_clip_that_a_trained_gate_reaches_is_none(tmp_path: Path) -> None:
    finish_run(tmp_path, ARM.with_(gates=((0.02,), (-0.04,)), changes={"alpha.lr": 5e-4}))
    assert alarms_of(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [{"fs_variant.norm": "none"}, {"fs_variant.gate": "head"}, {"fs_variant.clip": 0.0}],
)
def test_a_clip_that_the_records_cannot_judge_is_left_alone(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    finish_run(tmp_path, ARM.with_(gates=((0.02,), (0.03,)), changes=changes))
    assert alarms_of(tmp_path) == []


def test_the_note_of_a_run_about_its_clip_is_an_alarm_once(tmp_path: Path) -> None:
    note = "fs_variant.clip=1 can never bind: strength x head size = 0.072"
    spec = ARM.with_(notes=["another note", note], changes={"fs_variant.gate": "head"})
    paths = [finish_run(tmp_path, spec.with_(seed=seed, loss=1.0 + seed)) for seed in (0, 1)]
    assert alarms_of(tmp_path) == [f"{note}: {paths[0]}, {paths[1]}"]


def test_nan_is_told_wherever_it_stands(tmp_path: Path) -> None:
    scored = finish_run(tmp_path, ARM.with_(scores={"f1": float("nan")}))
    failed = fail_run(tmp_path, ARM.with_(seed=1), kind="nan", message="loss is nan")
    gates = finish_run(tmp_path, ARM.with_(seed=2, loss=2.0, gates=((0.1,), (float("inf"),))))
    found = collect_runs([tmp_path]).alarms
    assert f"f1 at step 40 is nan: {scored}" in found
    assert f"NaN ended the run: {failed}" in found
    assert f"a gate is not finite: {gates}" in found


def test_numbers_beyond_a_float_do_not_raise(tmp_path: Path) -> None:
    path = finish_run(tmp_path, ARM)
    result = json.loads((path / "result.json").read_text())
    result["gates"] = {"first": [10**400], "last": [True]}
    (path / "result.json").write_text(json.dumps(result))
    assert alarms_of(tmp_path) == [f"a gate is not finite: {path}"]


def test_equal_texts_share_a_line(tmp_path: Path) -> None:
    paths = [finish_run(tmp_path, ARM.with_(seed=seed)) for seed in (0, 1)]
    first, second = (load_run(record) for record in find_runs([tmp_path]))
    found = [("a", first), ("b", first), ("a", second)]
    assert group_paths(found) == [f"a: {paths[0]}, {paths[1]}", f"b: {paths[0]}"]
