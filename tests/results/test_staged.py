from pathlib import Path

from fseed.records import find_runs
from fseed.results.collection import collect_runs
from fseed.results.pairs import build_arms
from fseed.results.runs import load_run
from fseed.results.staged import find_dropped, read_sweeps, stage_number, sweep_folder
from tests.results.builders import RunSpec, finish_run, identity_of, run_dir_of, start_run
from tests.results.staged import decision_content, plan_arm, write_decisions, write_plan

BASE = RunSpec(correct=(5,) * 10, units=(10,) * 10)


def write_stage(root: Path, *, stage: str, seeds: range, arm: str = "scalar_l10") -> str:
    """Write an arm and its baseline at a stage; return the arm key."""
    for seed in seeds:
        finish_run(root, BASE.with_(seed=seed, loss=1.0 + seed).at(stage))
        correct = [5] * 9 + [3 + seed % 2]
        finish_run(root, BASE.with_(arm=arm, seed=seed, correct=correct, loss=1.5 + seed).at(stage))
    return identity_of(RunSpec(arm=arm))["arm_key"]


def test_a_dropped_arm_is_pruned_with_the_reason_of_its_decision(tmp_path: Path) -> None:
    key = write_stage(tmp_path, stage="quick", seeds=range(3))
    write_decisions(tmp_path / "default", [decision_content("scalar_l10", key)])
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == ("pruned", "dropped")
    assert (row.dropped_at, row.dropped_reason) == ("quick", "below_wanted_gain")
    assert row.reason.startswith("at quick after 3 seeds, below_wanted_gain: scalar_l10 is dropped")
    assert "decisions.jsonl:1" in row.reason
    assert row.difference is not None


def test_an_arm_that_went_on_is_judged_by_its_numbers(tmp_path: Path) -> None:
    key = write_stage(tmp_path, stage="quick", seeds=range(3))
    passed = decision_content("scalar_l10", key, state="passed", reason="above_zero")
    write_decisions(tmp_path / "default", [passed])
    assert collect_runs([tmp_path]).comparisons[0].verdict != "pruned"
    # dropped, and then run at a later stage after all
    write_stage(tmp_path, stage="medium", seeds=range(3, 6))
    write_decisions(tmp_path / "default", [decision_content("scalar_l10", key)])
    assert [row.verdict for row in collect_runs([tmp_path]).comparisons].count("pruned") == 0


def test_an_arm_dropped_at_medium_is_pruned_there_alone(tmp_path: Path) -> None:
    key = write_stage(tmp_path, stage="quick", seeds=range(3))
    write_stage(tmp_path, stage="medium", seeds=range(3, 6))
    passed = decision_content("scalar_l10", key, state="passed", reason="above_zero")
    dropped = decision_content("scalar_l10", key, stage="medium")
    write_decisions(tmp_path / "default", [passed, dropped])
    verdicts = {row.stage: row.verdict for row in collect_runs([tmp_path]).comparisons}
    assert verdicts["medium"] == "pruned"
    assert verdicts["quick"] != "pruned"


def test_a_decision_holds_in_its_own_sweep_and_task_only(tmp_path: Path) -> None:
    key = write_stage(tmp_path, stage="quick", seeds=range(3))
    write_decisions(tmp_path / "other", [decision_content("scalar_l10", key)])
    squad = decision_content("scalar_l10", key, task="squad")
    write_decisions(tmp_path / "default", [squad])
    assert [row.verdict == "pruned" for row in collect_runs([tmp_path]).comparisons] == [False]


def test_a_dropped_arm_without_a_pair_is_still_pruned(tmp_path: Path) -> None:
    spec = RunSpec(arm="scalar_l10").at("quick")
    start_run(tmp_path, spec)
    key = identity_of(spec)["arm_key"]
    write_decisions(tmp_path / "default", [decision_content("scalar_l10", key)])
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.difference) == ("pruned", None)


def test_a_torn_plan_and_a_bad_decision_are_named_and_lose_nothing_else(tmp_path: Path) -> None:
    write_stage(tmp_path, stage="quick", seeds=range(3))
    plan = write_plan(tmp_path / "default", [plan_arm("scalar_l10", "k")])
    plan.write_text(plan.read_text()[:50])
    decisions = write_decisions(tmp_path / "default", [{"schema_version": 9}])
    found = collect_runs([tmp_path])
    assert len(found.comparisons) == 1
    assert any(alarm.startswith(f"{plan}: ") for alarm in found.alarms)
    assert any(alarm.startswith(f"{decisions}:1: unknown schema") for alarm in found.alarms)
    assert len(found.sweeps[0].problems) == 2


def test_sweeps_are_found_from_any_folder_of_theirs(tmp_path: Path) -> None:
    key = write_stage(tmp_path, stage="quick", seeds=range(3))
    write_plan(tmp_path / "default", [plan_arm("scalar_l10", key)])
    runs = [load_run(record) for record in find_runs([tmp_path / "default" / "hotpot"])]
    (sweep,) = read_sweeps(runs)
    assert sweep.folder == tmp_path / "default"
    assert sweep.plan is not None
    assert sweep.dropped("hotpot") == {}
    assert find_dropped([arm.runs for arm in build_arms(runs)], [sweep]) == [None]
    assert read_sweeps(runs[:0]) == []


def test_plain_sweeps_have_no_place_in_the_search(tmp_path: Path) -> None:
    write_stage(tmp_path, stage="plain", seeds=range(3))
    assert collect_runs([tmp_path]).sweeps == []
    assert [stage_number(name) for name in ("plain", "quick", "medium", "confirm")] == [-1, 0, 1, 2]


def test_a_stray_run_lies_in_no_sweep(tmp_path: Path) -> None:
    path = finish_run(tmp_path, BASE)
    stray = path.rename(tmp_path / "stray")
    (record,) = find_runs([stray])
    assert sweep_folder(load_run(record)) is None
    assert run_dir_of(tmp_path, BASE).parents[3] == tmp_path / "default"
