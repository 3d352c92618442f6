from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.records import RESULT_FILE
from fseed.sweep.lock import LOCK_FILE
from fseed.sweep.plan import (
    RunState,
    SweepPlan,
    baseline_overrides,
    is_arm_override,
    plan_run,
    plan_sweep,
)
from fseed.sweep.report import max_tokens, render_notes, render_plan, render_summary
from tests.configs import build_config, compose, compose_below
from tests.sweep.fake_training import fail, files_below, finish, start
from tests.sweep.test_lock import holder

Plan = Callable[..., SweepPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Plan points given as lists of overrides, below tmp_path."""

    def planned(*points: list[str]) -> SweepPlan:
        root = f"output.root={tmp_path}"
        composed = [compose_below([*words, root]) for words in points]
        return plan_sweep(composed, compose=compose_below)

    return planned


def names(plan: SweepPlan) -> list[str]:
    return [f"{entry.run.arm} s{entry.run.config.seed}" for entry in plan.entries]


def only(plan: SweepPlan, arm: str) -> PlannedRun:
    (run,) = [entry.run for entry in plan.entries if entry.run.arm == arm]
    return run


def test_each_arm_follows_its_baseline(plan: Plan) -> None:
    grid = [[f"fs={fs}", f"seed={s}"] for fs in ("scalar_l10", "head_l8") for s in (0, 1)]
    found = plan(*grid)
    assert names(found) == [
        *("no_fs s0", "scalar_l10 s0", "no_fs s1", "scalar_l10 s1"),
        *("head_l8 s0", "head_l8 s1"),
    ]
    assert [entry.is_added for entry in found.entries] == [True, False, True, False, False, False]
    pairs = {entry.run.config.seed: entry.run.pair_key for entry in found.entries}
    assert {entry.run.pair_key for entry in found.entries} == set(pairs.values())


def test_a_baseline_of_the_grid_itself_comes_first_and_once(plan: Plan) -> None:
    found = plan(["fs=scalar_l10"], ["fs=head_l8"], ["fs=no_fs"])
    assert names(found) == ["no_fs s0", "scalar_l10 s0", "head_l8 s0"]
    assert not any(entry.is_added for entry in found.entries)


def test_arms_that_differ_beyond_future_seed_have_their_own_baselines(plan: Plan) -> None:
    found = plan(["fs=scalar_l10", "budget.steps=3"], ["fs=scalar_l10", "budget.steps=4"])
    steps = [(entry.run.arm, entry.run.config.budget.steps) for entry in found.entries]
    assert steps == [("no_fs", 3), ("scalar_l10", 3), ("no_fs", 4), ("scalar_l10", 4)]


def test_baselines_can_be_left_out(plan: Plan) -> None:
    assert names(plan(["fs=scalar_l10", "sweep.baseline=none"])) == ["scalar_l10 s0"]


def test_a_plan_of_baselines_only_adds_none(plan: Plan) -> None:
    assert names(plan(["fs=no_fs"], ["fs=no_fs", "lstart=3"])) == ["no_fs s0"]


def test_the_same_run_under_two_names_runs_once(plan: Plan) -> None:
    points = (["fs=scalar_l10"], ["fs=scalar_l8", "lstart=10"], ["fs=scalar_l10", "alpha=m2"])
    found = plan(*points)
    assert names(found) == ["no_fs s0", "scalar_l10 s0"]
    assert found.num_duplicates == 2
    assert "2 repeated points dropped" in render_summary(found)


def test_controls_share_the_baseline_of_their_arm(plan: Plan) -> None:
    kinds = ("none", "aa", "shuffled_state", "repeat_prompt")
    found = plan(*(["fs=scalar_l10", f"control={kind}"] for kind in kinds))
    assert names(found) == [
        *("no_fs s0", "scalar_l10 s0", "scalar_l10,control=aa s0"),
        *("scalar_l10,control=shuffled_state s0", "no_fs,control=repeat_prompt s0"),
    ]
    assert len({entry.run.pair_key for entry in found.entries}) == 1


def test_a_baseline_that_would_differ_is_refused(plan: Plan) -> None:
    def other_steps(overrides: object) -> object:
        return replace(compose("fs=no_fs"), config=build_config("fs=no_fs", budget__steps=7))

    with pytest.raises(UserError, match=r"baseline of scalar_l10 would differ .* budget\.steps"):
        plan_sweep([compose("fs=scalar_l10")], compose=other_steps)


def test_a_bad_point_stops_the_plan_before_anything_is_written(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lstart=12 seeds no layer"):
        plan(["fs=scalar_l10"], ["fs=scalar_l10", "lstart=12"])
    assert files_below(tmp_path) == []


def test_planning_writes_nothing(plan: Plan, tmp_path: Path) -> None:
    found = plan(["fs=scalar_l10"])
    assert files_below(tmp_path) == []
    assert {entry.state for entry in found.entries} == {RunState.new}


def test_run_directories_follow_the_layout(plan: Plan, tmp_path: Path) -> None:
    run = only(plan(["fs=scalar_l10", "seed=3", "sweep.name=first"]), "scalar_l10")
    expected = tmp_path / "first" / "hotpot" / "plain" / "scalar_l10" / f"s3-{run.run_id}"
    assert run.run_dir == expected


def test_states_on_disk(plan: Plan) -> None:
    words = [["fs=scalar_l10", f"seed={seed}", "sweep.baseline=none"] for seed in range(6)]
    runs = [entry.run for entry in plan(*words).entries]
    start(runs[1])
    fail(runs[2])
    finish(runs[3])
    finish(runs[4])
    (runs[4].run_dir / RESULT_FILE).write_text('{"schema_version": 2, "stat')
    fail(runs[5], kind="interrupted")
    found = plan(*words)
    states = [entry.state.value for entry in found.entries]
    assert states == ["new", "unfinished", "failed", "finished", "unfinished", "unfinished"]
    assert [run.config.seed for run in found.to_run] == [0, 1, 2, 4, 5]
    assert found.position(found.to_run[-1]) == "6/6"


def test_a_result_of_another_run_does_not_count(plan: Plan) -> None:
    run = only(plan(["fs=scalar_l10"]), "scalar_l10")
    finish(replace(run, run_id="0123456789"))
    assert plan(["fs=scalar_l10"]).entries[1].state is RunState.unfinished


def test_a_run_whose_predictions_are_gone_is_made_again(plan: Plan) -> None:
    run = only(plan(["fs=scalar_l10"]), "scalar_l10")
    finish(run)
    (run.run_dir / "predictions.parquet").write_bytes(b"PAR1 torn")
    assert plan(["fs=scalar_l10"]).entries[1].state is RunState.unfinished


def test_a_finished_run_is_found_under_another_label(plan: Plan) -> None:
    run = only(plan(["fs=scalar_l8", "lstart=10"]), "scalar_l8,lstart=10")
    finish(run)
    entry = plan(["fs=scalar_l10"]).entries[1]
    assert entry.state is RunState.finished
    assert entry.run.run_dir == run.run_dir
    assert entry.run.arm == "scalar_l10"


def test_a_finished_run_of_another_sweep_is_another_run(plan: Plan) -> None:
    finish(only(plan(["fs=scalar_l10"]), "scalar_l10"))
    assert plan(["fs=scalar_l10", "sweep.name=b"]).entries[1].state is RunState.new


def test_a_run_of_another_process_is_left_alone(plan: Plan) -> None:
    run = only(plan(["fs=scalar_l10"]), "scalar_l10")
    with holder(run.run_dir):
        found = plan(["fs=scalar_l10"])
        assert found.entries[1].state is RunState.running
        assert [left.arm for left in found.to_run] == ["no_fs"]
    assert (run.run_dir / LOCK_FILE).exists()
    assert plan(["fs=scalar_l10"]).entries[1].state is RunState.unfinished


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        *(("fs=a", True), ("lstart=9", True), ("alpha.init=-2", True), ("control=aa", True)),
        *(("fs_variant.detach=false", True), ("schedule=cosine", True), ("seed=1", False)),
        *(("budget.steps=3", False), ("model=nano", False), ("weights=/fs=1", False)),
    ],
)
def test_arm_overrides(override: str, expected: bool) -> None:
    assert is_arm_override(override) is expected


def test_baseline_overrides_keep_the_rest() -> None:
    words = ["data=local", "data.root='/a b'", "fs=static", "lstart=2", "experiment=round21"]
    kept = ["data=local", "data.root='/a b'", "experiment=round21", "fs=no_fs"]
    assert baseline_overrides(words) == kept


def test_the_plan_in_words(plan: Plan) -> None:
    sizes = ["budget.batch_size=16", "task.max_length_tokens=1024", "fs=scalar_l10"]
    done = only(plan([*sizes, "budget.steps=40"]), "scalar_l10")
    finish(done)
    text = render_plan(plan([*sizes, "budget.steps=40"], [*sizes, "budget.steps=10"]))
    lines = text.splitlines()
    assert lines[0].split() == ["run", "arm", "seed", "status", "steps", "tokens", "folder"]
    assert lines[1].split()[:7] == ["1/4", "no_fs", "(added)", "0", "new", "40", "<="]
    assert lines[2].split()[1:4] == ["scalar_l10", "0", "finished"]
    assert lines[2].endswith(str(done.run_dir))
    # 40 + 10 + 10 steps of 16 examples of at most 1,024 tokens
    assert lines[-1] == (
        "4 runs: 3 new, 1 finished, 2 baselines added; 3 to start, at most 983,040 training tokens"
    )


def test_token_budgets_are_exact_up_to_one_step(plan: Plan) -> None:
    words = ["fs=no_fs", "budget.steps=null", "budget.tokens=50000"]
    entry = plan_run(compose(*words, "budget.batch_size=4", "task.max_length_tokens=512"))
    assert max_tokens(entry.run.config) == 50_000 + 4 * 512 - 1
    assert " 50,000 " in render_plan(SweepPlan([entry], num_duplicates=0))


def test_a_remark_is_made_once_with_its_arms(plan: Plan) -> None:
    words = ["fs=scalar_l10", "alpha=m3", "fs_variant.clip=64"]
    found = plan(*([*words, f"seed={seed}"] for seed in (0, 1)))
    (note,) = render_notes(found)
    assert "clip=64 can never bind" in note
    assert note.endswith("(scalar_l10,alpha=m3,fs_variant.clip=64)")
