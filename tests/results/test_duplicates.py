from pathlib import Path

from fseed.records import find_runs
from fseed.results.collection import collect_runs
from fseed.results.duplicates import arm_place, drop_duplicates, find_reuses
from fseed.results.runs import Run, load_run
from tests.results.builders import RunSpec, fail_run, finish_run

BASE = RunSpec()


def load(root: Path) -> list[Run]:
    return [load_run(record) for record in find_runs([root])]


def test_of_two_finished_runs_that_of_the_earlier_stage_counts(tmp_path: Path) -> None:
    # the path of the later stage comes first in the order of names
    for stage in ("confirm", "quick"):
        finish_run(tmp_path, BASE.at(stage))
    (run,) = drop_duplicates(load(tmp_path)).runs
    assert run.labels[3] == "quick"


def test_a_finished_run_counts_before_an_earlier_stage(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE.at("confirm"))
    fail_run(tmp_path, BASE.at("quick"))
    (run,) = drop_duplicates(load(tmp_path)).runs
    assert (run.labels[3], run.status) == ("confirm", "finished")


def test_only_runs_that_finished_with_other_numbers_contradict(tmp_path: Path) -> None:
    for sweep in ("one", "two"):
        finish_run(tmp_path, BASE.with_(sweep=sweep))
        finish_run(tmp_path, BASE.with_(sweep=sweep, seed=1, loss=float(len(sweep)) / 9))
    finish_run(tmp_path, BASE.with_(sweep="one", seed=2))
    fail_run(tmp_path, BASE.with_(sweep="two", seed=2))
    other = finish_run(tmp_path, BASE.with_(sweep="three", seed=1, loss=7.0))
    told = drop_duplicates(load(tmp_path))
    assert told.contradicted == {other.name.partition("-")[2]}
    assert len(told.runs) == 3


def test_a_row_that_rests_on_a_contradicted_run_is_invalid(tmp_path: Path) -> None:
    for seed, right in enumerate((20, 22, 24)):
        base = RunSpec(seed=seed, correct=[20] * 20, units=[40] * 20, loss=1.0 + seed)
        arm = base.with_(arm="scalar_l10", correct=[20] * 19 + [20 + right], loss=0.5 + seed)
        finish_run(tmp_path, base)
        finish_run(tmp_path, arm)
        finish_run(tmp_path, arm.with_(arm="head_l10", loss=0.7 + seed, changes={"lstart": 9}))
        if seed == 0:
            finish_run(tmp_path, arm.with_(sweep="second", loss=9.0))
    rows = {row.arm: row for row in collect_runs([tmp_path]).comparisons}
    first = rows["scalar_l10"]
    assert (first.verdict, first.reason_code) == ("invalid", "contradicting_duplicates")
    assert rows["head_l10"].verdict == "helps"


def test_all_pairs_of_stages_are_compared(tmp_path: Path) -> None:
    for stage, seed, steps in (("quick", 0, 40), ("medium", 1, 80), ("confirm", 0, 160)):
        changes = {"budget.steps": steps}
        finish_run(tmp_path, BASE.with_(seed=seed, changes=changes, loss=1.0 + steps).at(stage))
    (reuse,) = find_reuses(load(tmp_path))
    assert (reuse.seeds, reuse.earlier.labels[3], reuse.later.labels[3]) == (
        (0,),
        "quick",
        "confirm",
    )
    assert arm_place(reuse.earlier) == arm_place(reuse.later)
