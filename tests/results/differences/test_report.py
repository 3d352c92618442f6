"""Comparisons as sections and as data."""

import json
from pathlib import Path

from fseed.results.differences.report import (
    compare_sources,
    compare_sweep,
    describe_rows,
    label,
    to_data,
    to_section,
)
from fseed.results.differences.sources import find_source, read_sweep
from tests.results.builders import RunSpec, finish_run
from tests.results.differences.runs_on_disk import write_small_sweep


def pair(root: Path, **changes: object) -> list[str]:
    specs = RunSpec(), RunSpec(arm="scalar_l10", changes=changes)
    return [str(finish_run(root, spec)) for spec in specs]


def test_two_runs(tmp_path: Path) -> None:
    names = pair(tmp_path, lstart=8)
    found = compare_sources([find_source(name, root=tmp_path) for name in names])
    section = to_section(found, expected=["fs"], shows_volatile=False)
    assert [line.split(",")[:3] for line in section.lines] == [
        ["A: hotpot", " plain", " no_fs"],
        ["B: hotpot", " plain", " scalar_l10"],
    ]
    assert section.table is not None
    assert section.table.header == ["group", "key", "A", "B"]
    assert ["fs", "lstart", "(10)", "8"] in section.table.rows
    assert section.notes[-1] == "as expected: nothing but fs differs"
    assert "(value): an option that this arm does not read" in section.notes


def test_volatile_rows_are_hidden_and_counted(tmp_path: Path) -> None:
    names = pair(tmp_path)
    found = compare_sources([find_source(name, root=tmp_path) for name in names])
    hidden = to_section(found, expected=None, shows_volatile=False)
    shown = to_section(found, expected=None, shows_volatile=True)
    assert hidden.table is not None
    assert shown.table is not None
    assert {row[0] for row in hidden.table.rows} == {"fs"}
    assert {row[1] for row in shown.table.rows} - {row[1] for row in hidden.table.rows} == {
        "provenance.run_id",
        "provenance.arm_key",
    }
    assert hidden.notes[0].endswith("keys are equal; 2 volatile ones differ, hidden (--all)")
    assert shown.notes[0].endswith("keys are equal")


def test_what_was_not_expected_is_named(tmp_path: Path) -> None:
    names = pair(tmp_path, **{"budget.steps": 80, "optim.lr": 0.1})
    found = compare_sources([find_source(name, root=tmp_path) for name in names])
    section = to_section(found, expected=["fs", "budget"], shows_volatile=False)
    assert section.notes[-1] == "expected fs, budget; differs too: optim.lr 0.0003 vs 0.1"
    assert describe_rows(found.matrix.unexpected_rows(["fs", "optimiser"])) == (
        "budget.steps 40 vs 80"
    )


def test_equal_runs_say_so(tmp_path: Path) -> None:
    run = find_source(pair(tmp_path)[0], root=tmp_path)
    section = to_section(compare_sources([run, run]), expected=None, shows_volatile=False)
    assert section.notes[0] == "no difference"


def test_one_comparison_per_task_and_stage(tmp_path: Path) -> None:
    write_small_sweep(tmp_path)
    write_small_sweep(tmp_path, task__name="arc", arms=("no_fs",), seeds=(0,))
    sweep = write_small_sweep(tmp_path, sweep__stage="quick", seeds=(3,))
    found = compare_sweep(read_sweep(sweep).sources)
    assert [entry.title for entry in found] == [
        *("arc, plain: 1 run", "hotpot, plain: 6 runs", "hotpot, quick: 3 runs")
    ]
    assert all(not entry.matrix.unexpected_rows(["fs"]) for entry in found)


def test_two_sweeps_in_one_folder_are_compared_apart(tmp_path: Path) -> None:
    write_small_sweep(tmp_path, name="a")
    write_small_sweep(tmp_path, name="b", budget__steps=80)
    found = compare_sweep(read_sweep(tmp_path).sources)
    assert [entry.title for entry in found] == [
        *("a, hotpot, plain: 6 runs", "b, hotpot, plain: 6 runs")
    ]
    assert all(not entry.matrix.unexpected_rows(["fs"]) for entry in found)


def test_data_leaves_absent_values_out(tmp_path: Path) -> None:
    paths = [Path(name) for name in pair(tmp_path)]
    text = (paths[0] / "config.yaml").read_text()
    (paths[0] / "config.yaml").write_text(text.replace("  eps: 1.0e-08\n", ""))
    found = compare_sources([find_source(str(path), root=tmp_path) for path in paths])
    data = to_data(found, expected=["fs"], shows_volatile=False)
    assert json.loads(json.dumps(data)) == data
    rows = {row["key"]: row for row in data["rows"]}
    assert rows["optim.eps"] == {
        "group": "optimiser",
        "key": "optim.eps",
        "values": {"A": [], "B": [1e-8]},
    }
    assert data["unexpected"] == ["optim.eps"]
    assert data["columns"]["B"]["arm"] == "scalar_l10"
    assert data["columns"]["B"]["seeds"] == [0]


def test_labels_never_repeat() -> None:
    labels = [label(number) for number in range(1000)]
    assert len(set(labels)) == 1000
    assert labels[:3] == ["A", "B", "C"]
