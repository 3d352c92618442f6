"""What one sweep changes against another."""

from dataclasses import replace
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.records import CONFIG_FILE, write_text_atomic
from fseed.results.differences.sources import read_sweep
from fseed.results.differences.sweeps import SweepChanges, max_tokens, render_plan_changes
from fseed.sweep.plan import SweepPlan, plan_sweep
from tests.configs import composer
from tests.results.differences.runs_on_disk import only_run, write_small_sweep


def changes_of(old: Path, new: Path) -> SweepChanges:
    return SweepChanges(read_sweep(old).sources, read_sweep(new).sources)


def test_the_same_sweep_changes_nothing(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path)
    changes = changes_of(sweep, sweep)
    assert changes.settings == []
    assert changes.unexpected([]) == []
    assert changes.overview() == [
        "6 runs before, 6 runs now",
        "same run id: 6 of 6, 6 finished in the same place and skipped",
        "training tokens, at most: 983,040 before, 983,040 now (+0.0 %)",
    ]
    sections = changes.as_sections(names=("old", "new"))
    assert sections[1].lines == ["none in the arms that both have"]


def test_tasks_arms_seeds_settings_and_tokens(tmp_path: Path) -> None:
    old = write_small_sweep(tmp_path)
    write_small_sweep(tmp_path, name="old", arms=("no_fs",), seeds=(0,), task__name="arc")
    new = write_small_sweep(
        tmp_path, name="new", arms=("no_fs", "raw_l8", "head_l8"), seeds=(1, 2), budget__steps=80
    )
    changes = changes_of(old, new)
    assert changes.overview() == [
        "7 runs before, 6 runs now",
        "tasks removed arc",
        "same run id: 0 of 6",
        "hotpot: arms added head_l8; removed scalar_l10",
        "all arms: seeds added 2; removed 0",
        "training tokens, at most: 1,146,880 before, 1,966,080 now (+71.4 %)",
        "hotpot: tokens of one run, at most: 163,840 before, 327,680 now",
    ]
    (change,) = changes.settings
    assert (change.group, change.key, change.old, change.new) == (
        "budget",
        "budget.steps",
        [40],
        [80],
    )
    assert change.places == [("hotpot", "no_fs"), ("hotpot", "raw_l8")]
    assert changes.unexpected([]) == ["tasks", "arms", "seeds", "budget.steps"]
    assert changes.unexpected(["fs", "seed", "data", "budget"]) == []
    assert changes.unexpected(["fs", "seed", "budget.steps"]) == ["tasks"]


def test_runs_of_the_same_id_elsewhere_are_not_skipped(tmp_path: Path) -> None:
    old, new = (write_small_sweep(tmp_path / name) for name in ("one", "two"))
    (only_run(old, "no_fs", 0) / "result.json").unlink()
    assert changes_of(old, new).overview()[1] == (
        "same run id: 6 of 6, 6 in another place or not finished, to be run"
    )
    assert changes_of(old, old).overview()[1] == (
        "same run id: 6 of 6, 5 finished in the same place and skipped, "
        "1 in another place or not finished, to be run"
    )


def test_options_of_one_arm_under_the_same_label(tmp_path: Path) -> None:
    old = write_small_sweep(tmp_path, alpha__init=-2.0)
    new = write_small_sweep(tmp_path, name="new", alpha__init=-3.0)
    sections = changes_of(old, new).as_sections(names=("old", "new"))
    assert sections[1].table is not None
    # the baseline reads no gate, so it does not change
    assert sections[1].table.rows == [
        ["fs", "alpha.init", "-2.0", "-3.0", "hotpot raw_l8, hotpot scalar_l10"]
    ]


def test_values_that_vary_within_an_arm_are_compared_as_sets(tmp_path: Path) -> None:
    old = write_small_sweep(tmp_path, seeds=(0, 1), budget__steps=40)
    write_small_sweep(tmp_path, name="new", seeds=(0,), budget__steps=80)
    new = write_small_sweep(tmp_path, name="new", seeds=(1,), budget__steps=40)
    (change,) = changes_of(old, new).settings
    assert (change.old, change.new) == ([40], [40, 80])


def test_data_leaves_absent_values_out(tmp_path: Path) -> None:
    old, new = (write_small_sweep(tmp_path, name=name) for name in ("old", "new"))
    for path in new.rglob(CONFIG_FILE):
        write_text_atomic(path, path.read_text().replace("  width: 64\n", ""))
    assert changes_of(old, new).as_data()["changes"] == [
        {
            "group": "model",
            "key": "model.width",
            "before": [64],
            "now": [],
            "arms": [{"task": "hotpot", "arm": arm} for arm in ("no_fs", "raw_l8", "scalar_l10")],
        }
    ]


@pytest.mark.parametrize(
    ("steps", "tokens", "expected"),
    [(40, None, 40 * 8 * 512), (None, 10_000, 10_000 + 8 * 512 - 1), (None, None, None)],
)
def test_max_tokens(tmp_path: Path, steps: object, tokens: object, expected: object) -> None:
    settings = {"budget.steps": steps, "budget.tokens": tokens}
    sources = read_sweep(write_small_sweep(tmp_path, arms=("no_fs",), seeds=(0,))).sources
    sample = sources[0].sample
    changed = replace(sample, settings={**sample.settings, **settings})
    assert max_tokens(replace(sources[0], sample=changed)) == expected


def plan(root: Path, *words: str) -> SweepPlan:
    overrides = [f"output.root={root}", "sweep.name=old", *words]
    arms = [[*overrides, "fs=scalar_l10", f"seed={seed}"] for seed in (0, 1)]
    return plan_sweep((composer().compose(arm) for arm in arms), compose=composer().compose)


def write_plan(runs: list[PlannedRun]) -> None:
    """Write the planned configurations as started runs, by the writer of training."""
    import yaml

    for run in runs:
        write_text_atomic(run.run_dir / CONFIG_FILE, yaml.safe_dump(run.resolved_config()))


def test_a_plan_against_itself_on_disk(tmp_path: Path) -> None:
    runs = [entry.run for entry in plan(tmp_path).entries]
    write_plan(runs)
    text = render_plan_changes(runs, tmp_path / "old")
    assert text.startswith("this plan against old\n  4 runs before, 4 runs now\n")
    assert "none in the arms that both have" in text
    assert str(tmp_path) not in text


def test_a_plan_against_an_older_one(tmp_path: Path) -> None:
    write_plan([entry.run for entry in plan(tmp_path).entries])
    words = ("budget.steps=48", "optim.lr=0.002", "sweep.name=new")
    runs = [entry.run for entry in plan(tmp_path, *words).entries]
    lines = render_plan_changes(runs, tmp_path / "old").splitlines()
    assert [line.split() for line in lines if line.startswith("  budget ")] == [
        ["budget", "budget.steps", "24", "48", "all", "arms"]
    ]
    assert [line.split() for line in lines if line.startswith("  optimiser ")] == [
        ["optimiser", "optim.lr", "0.001", "0.002", "all", "arms"]
    ]
    assert any("(+100.0 %)" in line for line in lines)
    assert lines[2] == "  same run id: 0 of 4"


def test_a_plan_against_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        render_plan_changes([entry.run for entry in plan(tmp_path).entries], tmp_path / "none")


def test_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    runs = [entry.run for entry in plan(tmp_path).entries]
    sweep = write_small_sweep(tmp_path, name="broken")
    (only_run(sweep, "no_fs", 0) / "config.yaml").write_text("[")
    assert "not compared\n  hotpot/plain/no_fs/s0-" in render_plan_changes(runs, sweep)
