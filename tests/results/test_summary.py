from pathlib import Path

import pytest
from scipy import stats

from fseed.results.collection import Collection, collect_runs
from fseed.results.summary import (
    NOT_STARTED,
    appendix_rows,
    as_rows,
    stage_rows,
    task_summaries,
)
from fseed.results.summary_cells import appendix_cells, stage_tables, summary_cells
from tests.results.builders import RunSpec, fail_run, finish_run, identity_of
from tests.results.staged import (
    decision_content,
    plan_arm,
    staged_spec,
    write_decisions,
    write_plan,
    write_staged_sweep,
)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("staged")
    write_staged_sweep(root)
    return collect_runs([root])


def test_every_arm_has_a_row_per_stage_that_it_reached(staged: Collection) -> None:
    rows = [row for row in stage_rows(staged) if row.task == "hotpot" and row.control == "none"]
    told = {(row.arm, row.stage): (row.state, row.decision_reason) for row in rows}
    assert told == {
        ("scalar_l10", "quick"): ("passed", "above_zero"),
        ("scalar_l10", "medium"): ("passed", "above_zero"),
        ("scalar_l10", "confirm"): (None, None),
        ("raw_l10", "quick"): ("passed", "above_zero"),
        ("raw_l10", "medium"): ("dropped", "below_wanted_gain"),
        ("head_l10", "quick"): ("dropped", "below_wanted_gain"),
    }
    verdicts = {(row.arm, row.stage): row.verdict for row in rows}
    assert verdicts["scalar_l10", "confirm"] == "helps"
    assert verdicts["raw_l10", "medium"] == verdicts["head_l10", "quick"] == "pruned"


def test_stages_stand_side_by_side_those_that_came_furthest_first(staged: Collection) -> None:
    (first, cells), second = list(stage_tables(stage_rows(staged)))
    assert first == "stages of task hotpot, source mini, model nano"
    assert second[0].startswith("stages of task squad")
    assert [row["arm"] for row in cells] == [
        *("scalar_l10", "  scalar_l10,control=aa", "  scalar_l10,control=random_state"),
        *("raw_l10", "head_l10"),
    ]
    assert list(cells[0]) == ["arm", "quick", "medium", "confirm"]
    assert cells[0]["confirm"] == "+3.00 [+2.75, +3.25] (5) helps"
    assert cells[3]["medium"].endswith("(3) dropped")
    assert (cells[4]["medium"], cells[1]["quick"]) == ("-", "-")


def test_an_arm_over_tasks_is_its_interquartile_mean(tmp_path: Path) -> None:
    gains = {"hotpot": 0, "squad": 8, "arc": 16, "mbpp": 40, "kvsort": -4}
    for task, gain in gains.items():
        for seed in range(3):
            finish_run(tmp_path, staged_spec("no_fs", seed=seed, stage="confirm", task=task))
            spec = staged_spec("scalar_l10", seed=seed, stage="confirm", task=task)
            correct = [20] * 19 + [20 + gain]
            finish_run(tmp_path, spec.with_(correct=correct, loss=spec.loss + 0.1))
    (row,) = task_summaries(collect_runs([tmp_path]))
    expected = stats.trim_mean([gain / 800 for gain in gains.values()], 0.25)
    assert row.mean_difference == pytest.approx(expected)
    assert (row.num_up, row.num_tied, row.num_down) == (3, 1, 1)
    assert (row.num_tasks, row.stage, row.arm) == (5, "confirm", "scalar_l10")
    assert set(row.tasks.split(", ")) == set(gains)
    cells = summary_cells(row)
    assert (cells["mean pp"], cells["+/0/-"]) == ("+1.00", "3/1/1")


def test_confirmed_arms_are_summed_up_from_confirm_alone(staged: Collection) -> None:
    rows = {row.arm: row for row in task_summaries(staged)}
    assert {row.stage for row in rows.values()} == {"confirm"}
    assert rows["scalar_l10"].num_helps == 2
    assert "raw_l10" not in rows


def write_task(root: Path, task: str, *, stage: str = "confirm", gain: int = 24) -> None:
    for seed in range(3):
        place = {"seed": seed, "stage": stage, "task": task}
        finish_run(root, staged_spec("no_fs", **place))
        finish_run(root, staged_spec("scalar_l10", gain=gain, **place))


def test_a_mean_over_survivors_names_the_tasks_that_pruned_the_arm(tmp_path: Path) -> None:
    write_task(tmp_path, "hotpot")
    write_task(tmp_path, "squad")
    decisions = []
    for task in ("arc", "mbpp"):
        write_task(tmp_path, task, stage="quick", gain=-16)
        key = identity_of(staged_spec("scalar_l10", seed=0, stage="quick", task=task))["arm_key"]
        decisions.append(decision_content("scalar_l10", key, task=task))
    write_decisions(tmp_path / "default", decisions)
    (row,) = task_summaries(collect_runs([tmp_path]))
    assert (row.num_tasks, row.num_helps, row.tasks) == (2, 2, "hotpot, squad")
    assert (row.num_pruned, row.pruned, row.left_out) == (2, "arc, mbpp", "")
    assert summary_cells(row)["pruned on"] == "2: arc, mbpp"


def test_rows_with_gaps_and_invalid_ones_do_not_enter_the_mean(tmp_path: Path) -> None:
    for task in ("hotpot", "squad", "arc", "mbpp"):
        write_task(tmp_path, task)
    fail_run(tmp_path, staged_spec("scalar_l10", seed=7, stage="confirm", task="arc"))
    for seed in range(3):
        untied = staged_spec("scalar_l10", seed=seed, stage="confirm", task="mbpp", gain=9)
        finish_run(tmp_path, untied.control("aa").with_(loss=5.0 + seed))
    (row,) = task_summaries(collect_runs([tmp_path]))
    assert (row.tasks, row.left_out) == ("hotpot, squad", "arc, mbpp")


def test_helps_counts_tasks_not_rows(tmp_path: Path) -> None:
    for task in ("hotpot", "squad"):
        for rate in (1e-4, 2e-4):
            for seed in range(3):
                place = {"seed": seed, "stage": "confirm", "task": task}
                base = staged_spec("no_fs", **place)
                # one of the two settings of one task shows nothing
                gain = 24 if (task, rate) != ("squad", 2e-4) else -1
                arm = staged_spec("scalar_l10", gain=gain, **place)
                for spec in (base, arm):
                    changes = {**spec.changes, "optim.lr": rate}
                    finish_run(tmp_path, spec.with_(changes=changes, loss=spec.loss + rate))
    (row,) = task_summaries(collect_runs([tmp_path]))
    assert (row.num_tasks, row.num_helps) == (2, 1)


def test_one_task_is_no_summary(tmp_path: Path) -> None:
    finish_run(tmp_path, RunSpec())
    finish_run(tmp_path, RunSpec(arm="scalar_l10", loss=0.5))
    assert task_summaries(collect_runs([tmp_path])) == []


def test_every_arm_without_a_result_is_in_the_appendix(tmp_path: Path) -> None:
    folder = write_staged_sweep(tmp_path, tasks=("hotpot",))
    failed = staged_spec("inputgate_l10", seed=0, stage="quick", task="hotpot")
    fail_run(tmp_path, failed)
    write_plan(
        folder,
        [
            plan_arm("inputgate_l10", identity_of(failed)["arm_key"]),
            plan_arm("never_l10", "n1"),
            plan_arm("never_l10,control=aa", "n2", control="aa", control_of="never_l10"),
        ],
    )
    found = collect_runs([tmp_path])
    rows = {row.arm: (row.stage, row.state, row.reason_code) for row in appendix_rows(found)}
    assert rows == {
        "head_l10": ("quick", "pruned", "below_wanted_gain"),
        "raw_l10": ("medium", "pruned", "below_wanted_gain"),
        "inputgate_l10": ("quick", "failed", "failed"),
        # its control is due only beside a confirmed arm
        "never_l10": ("quick", NOT_STARTED, NOT_STARTED),
    }
    cells = {row.arm: appendix_cells(row) for row in appendix_rows(found)}
    assert (cells["never_l10"]["state"], cells["never_l10"]["seeds"]) == ("not started", "-")
    stages = {row.arm: row.state for row in stage_rows(found)}
    assert stages["never_l10"] == NOT_STARTED
    assert any(
        row["arm"] == "never_l10" and row["quick"] == "not started"
        for _, table in stage_tables(stage_rows(found))
        for row in table
    )


def test_a_control_of_a_confirmed_arm_that_never_ran_is_missed(tmp_path: Path) -> None:
    folder = write_staged_sweep(tmp_path, tasks=("hotpot",))
    missing = plan_arm("x", "n2", control="same_layer", control_of="scalar_l10")
    write_plan(folder, [missing])
    write_decisions(folder, [])
    states = {row.arm: row.state for row in appendix_rows(collect_runs([tmp_path]))}
    assert states["x"] == NOT_STARTED


def test_rows_become_flat_mappings(staged: Collection) -> None:
    (row, *_) = as_rows(task_summaries(staged))
    assert row["arm"] == "scalar_l10"
    assert isinstance(row["mean_difference"], float)


def test_plain_sweeps_have_no_stages(tmp_path: Path) -> None:
    finish_run(tmp_path, RunSpec())
    finish_run(tmp_path, RunSpec(arm="scalar_l10", loss=0.5))
    found = collect_runs([tmp_path])
    assert (stage_rows(found), appendix_rows(found)) == ([], [])
