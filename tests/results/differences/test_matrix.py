"""Many runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fseed.results.differences.matrix import Column, Matrix, build_matrix, fold_seeds
from fseed.results.differences.runs import ABSENT, Sample, compare
from fseed.results.differences.sources import Source, find_source, read_sweep
from tests.results.builders import RunSpec, fail_run, finish_run, start_run
from tests.results.differences.runs_on_disk import only_run, write_small_sweep


def matrix_of(*settings: dict[str, Any]) -> Matrix:
    sources = [Source(Sample(values, {}), Path("config.yaml")) for values in settings]
    return build_matrix([Column(source.title, [source]) for source in sources])


def cells_of(matrix: Matrix) -> dict[str, list[Sequence[Any]]]:
    return {row.key: [cell.values for cell in row.cells] for row in matrix.rows}


def test_equal_keys_are_folded_and_the_rest_sorted_by_group_and_key() -> None:
    found = matrix_of(
        {"fs.mode": "no_fs", "optim.lr": 0.1, "budget.steps": 4, "budget.batch_size": 2, "seed": 0},
        {"fs.mode": "no_fs", "optim.lr": 0.2, "budget.steps": 8, "budget.batch_size": 4, "seed": 0},
        {"fs.mode": "no_fs", "optim.lr": 0.2, "budget.steps": 8, "budget.batch_size": 4, "seed": 0},
    )
    assert cells_of(found) == {
        "budget.batch_size": [[2], [4], [4]],
        "budget.steps": [[4], [8], [8]],
        "optim.lr": [[0.1], [0.2], [0.2]],
    }
    assert found.num_equal == 2


def test_a_missing_key_is_absent_and_counts() -> None:
    found = matrix_of({"budget.test": None}, {})
    assert cells_of(found) == {"budget.test": [[None], [ABSENT]]}
    assert [row.key for row in found.unexpected_rows(["fs"])] == ["budget.test"]


def test_volatile_rows_never_count() -> None:
    found = matrix_of({"output.root": "/a", "seed": 0}, {"output.root": "/b", "seed": 1})
    assert [row.group for row in found.rows] == ["seed", "volatile"]
    assert [row.key for row in found.counted_rows()] == ["seed"]
    assert found.unexpected_rows(["seed"]) == []


def test_expected_names_are_groups_or_keys() -> None:
    found = matrix_of({"budget.steps": 1, "lstart": 1}, {"budget.steps": 2, "lstart": 2})
    assert [row.key for row in found.unexpected_rows([])] == ["lstart", "budget.steps"]
    assert [row.key for row in found.unexpected_rows(["fs"])] == ["budget.steps"]
    assert found.unexpected_rows(["lstart", "budget"]) == []
    assert found.unexpected_rows(["fs", "budget.steps"]) == []


def test_options_that_an_arm_does_not_read_are_marked() -> None:
    plain = {"fs.mode": "no_fs", "lstart": 1}
    found = matrix_of(plain, {"fs.mode": "prompt_fs", "lstart": 8})
    row = next(row for row in found.rows if row.key == "lstart")
    assert [cell.is_read for cell in row.cells] == [False, True]
    assert row.group == "fs"
    assert [row.group for row in matrix_of(plain, {**plain, "lstart": 8}).rows] == ["volatile"]


def test_two_columns_say_what_a_pair_says(tmp_path: Path) -> None:
    changes = {"optim.lr": 1e-4, "output.root": "/o", "data.num_train": 3}
    specs = [RunSpec(), RunSpec(arm="raw_l8", seed=2, changes=changes)]
    specs[1] = specs[1].with_(provenance={"code_hash": "e" * 64, "git_commit": "f" * 40})
    sources = [find_source(str(finish_run(tmp_path, spec)), root=tmp_path) for spec in specs]
    pair = compare(sources[0].sample, sources[1].sample)
    matrix = build_matrix([Column(source.title, [source]) for source in sources])
    told = [(d.key, group, d.left, d.right) for group, found in pair.items() for d in found]
    rows = [(r.key, r.group, *(cell.values[0] for cell in r.cells)) for r in matrix.rows]
    assert sorted(told, key=lambda entry: entry[0]) == sorted(rows, key=lambda entry: entry[0])


def test_provenance_of_one_side_alone_is_no_difference(tmp_path: Path) -> None:
    path = finish_run(tmp_path, RunSpec())
    names = [str(path), str(path / "config.yaml")]
    sources = [find_source(name, root=tmp_path) for name in names]
    found = build_matrix([Column(source.title, [source]) for source in sources])
    assert found.rows == []
    assert found.num_equal == len(sources[0].sample.settings)


def test_seeds_fold_into_the_column_of_their_arm(tmp_path: Path) -> None:
    sources = read_sweep(write_small_sweep(tmp_path, seeds=(0, 1, 2, 7))).sources
    columns = fold_seeds(sources)
    titles = ["no_fs, seeds 0-2, 7", "raw_l8, seeds 0-2, 7", "scalar_l10, seeds 0-2, 7"]
    assert [column.title for column in columns] == titles
    rows = build_matrix(columns).counted_rows()
    assert {row.group for row in rows} == {"fs"}


def test_a_run_with_another_setting_has_its_own_column(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path, name="default")
    finish_run(tmp_path, RunSpec(arm="raw_l8", seed=2, changes={"budget.steps": 80}))
    columns = fold_seeds(read_sweep(sweep).sources)
    assert [column.title for column in columns] == [
        *("no_fs, seeds 0-1", "raw_l8, seeds 0-1", "raw_l8, seed 2", "scalar_l10, seeds 0-1")
    ]
    unexpected = build_matrix(columns).unexpected_rows(["fs"])
    assert [row.key for row in unexpected] == ["seed", "budget.steps"]


def test_other_code_within_one_arm_is_seen(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path, name="default", seeds=(0,))
    finish_run(tmp_path, RunSpec(seed=1, provenance={"code_hash": "e" * 64}))
    rows = build_matrix(fold_seeds(read_sweep(sweep).sources)).unexpected_rows(["fs", "seed"])
    assert [row.key for row in rows] == ["provenance.code_hash"]


def test_a_run_that_never_wrote_provenance_stays_with_its_arm(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path, name="default", arms=("no_fs",), seeds=(0, 1))
    path = start_run(tmp_path, RunSpec(seed=2))
    (path / "provenance.json").unlink()
    assert [c.title for c in fold_seeds(read_sweep(sweep).sources)] == ["no_fs, seeds 0-2"]


def test_a_failed_run_counts_with_its_settings(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path, name="default", arms=("no_fs",), seeds=(0,))
    fail_run(tmp_path, RunSpec(seed=1, changes={"optim.lr": 1.0}))
    assert only_run(sweep, "no_fs", 1).name.startswith("s1-")
    rows = build_matrix(fold_seeds(read_sweep(sweep).sources)).unexpected_rows(["seed"])
    assert [row.key for row in rows] == ["optim.lr"]
