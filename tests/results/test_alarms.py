from pathlib import Path

from fseed.results.collection import collect_runs
from tests.results.builders import RunSpec, fail_run, finish_run

BASE = RunSpec()
AA = RunSpec(arm="no_fs,control=aa", changes={"control.kind": "aa", "fs.mode": "no_fs"})


def test_clean_records_raise_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        finish_run(tmp_path, BASE.with_(seed=seed, loss=1.0 + seed))
        finish_run(tmp_path, BASE.with_(arm="scalar_l10", seed=seed, loss=2.5 + seed))
    assert collect_runs([tmp_path]).alarms == []


def test_a_run_id_in_two_folders_counts_once(tmp_path: Path) -> None:
    first = finish_run(tmp_path, BASE)
    second = finish_run(tmp_path, BASE.with_(sweep="second"))
    found = collect_runs([tmp_path])
    assert len(found.runs) == 1
    (alarm,) = found.alarms
    assert "stands twice, the first is counted" in alarm
    assert str(first) in alarm
    assert str(second) in alarm


def test_a_repeated_run_with_other_numbers_is_told(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    finish_run(tmp_path, BASE.with_(sweep="second", loss=1.5))
    assert "stands twice, with other numbers" in collect_runs([tmp_path]).alarms[0]


def test_runs_that_stand_twice_are_one_line_for_two_sweeps(tmp_path: Path) -> None:
    for seed in range(4):
        finish_run(tmp_path, BASE.with_(seed=seed, loss=1.0 + seed))
        finish_run(tmp_path, BASE.with_(seed=seed, loss=1.0 + seed, sweep="second"))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm.startswith("4 runs stand twice, the first are counted (")
    assert alarm.endswith(f", ...): {tmp_path / 'default'} and {tmp_path / 'second'}")


def test_the_finished_one_of_two_counts(tmp_path: Path) -> None:
    fail_run(tmp_path, BASE.with_(sweep="a"))
    finish_run(tmp_path, BASE.with_(sweep="b"))
    assert collect_runs([tmp_path]).counts == {"finished": 1}


def test_equal_scores_of_other_seeds_or_arms_are_suspicious(tmp_path: Path) -> None:
    paths = [finish_run(tmp_path, BASE.with_(seed=seed)) for seed in (0, 1)]
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm.startswith("scores equal to the last digit that should differ")
    assert all(str(path) in alarm for path in paths)


def test_an_arm_that_ties_with_its_baseline_is_left_to_its_verdict(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    finish_run(tmp_path, BASE.with_(arm="scalar_l10"))
    finish_run(tmp_path, AA)
    found = collect_runs([tmp_path])
    assert found.alarms == []
    reasons = {row.arm: row.reason for row in found.comparisons}
    assert reasons["no_fs,control=aa"].endswith("bit for bit, as an A/A arm must be")
    assert reasons["scalar_l10"].endswith("bit for bit")


def test_two_arms_that_tie_with_each_other_are_suspicious(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    for arm in ("scalar_l10", "head_l10"):
        finish_run(tmp_path, BASE.with_(arm=arm, loss=0.5))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert "scores equal to the last digit" in alarm


def test_the_same_run_under_two_code_versions_is_expected(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    finish_run(tmp_path, BASE.with_(provenance={"code_hash": "f" * 64}, sweep="later"))
    found = collect_runs([tmp_path])
    assert (len(found.runs), found.alarms) == (2, [])


def test_an_aa_arm_that_differs_is_one_alarm_whatever_its_seeds(tmp_path: Path) -> None:
    for seed in range(4):
        base = BASE.with_(seed=seed, loss=1.0 + seed)
        finish_run(tmp_path, base)
        path = finish_run(tmp_path, AA.with_(seed=seed, loss=base.loss + 1e-7 * (seed > 1)))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm.startswith("A/A arm differs from its baseline at 2 of 4 seeds (2,3)")
    assert alarm.endswith(f"no_fs,control=aa: {path.parent}")


def test_constant_answers_are_an_alarm(tmp_path: Path) -> None:
    paths = [
        finish_run(tmp_path, BASE.with_(seed=seed, loss=1.0 + seed, predictions=[answer] * 4))
        for seed, answer in enumerate(("no", "no", "yes"))
    ]
    # one line an arm, not one a run
    told = "no_fs answers one thing to every example: 'no' (seeds 0,1), 'yes' (seed 2): "
    assert collect_runs([tmp_path]).alarms == [f"{told}{paths[0].parent}"]


def test_torn_lines_are_named_with_their_file(tmp_path: Path) -> None:
    path = finish_run(tmp_path, BASE) / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 4')
    assert collect_runs([tmp_path]).alarms == [f"torn lines left out (5): {path}"]


def test_a_pair_that_differs_in_more_than_future_seed_is_told(tmp_path: Path) -> None:
    base = finish_run(tmp_path, BASE)
    path = finish_run(
        tmp_path,
        BASE.with_(arm="scalar_l10", loss=2.0, provenance={"versions": {"torch": "2.7"}}),
    )
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm == (
        "environment: provenance.versions.torch 2.7 vs 2.6 differ between "
        f"{path} and its baseline {base}"
    )


def test_an_edited_setting_of_a_pair_is_told(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    path = finish_run(tmp_path, BASE.with_(arm="scalar_l10", loss=2.0))
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.0003", "lr: 0.1"))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm.startswith("optimiser: optim.lr 0.1 vs 0.0003 differ between")


def test_a_pair_of_unequal_budgets_is_no_pair(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    path = finish_run(tmp_path, BASE.with_(arm="scalar_l10", loss=2.0))
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("steps: 40", "steps: 120"))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code, row.difference) == ("invalid", "unequal_budget", None)
    assert "its no_fs run has another budget: budget.steps 120 vs 40" in row.reason


def test_a_score_and_a_loss_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    units, paths = (40,) * 20, []
    for seed, gain in enumerate((20, 22, 24)):
        base = RunSpec(seed=seed, correct=(20,) * 20, units=units, loss=1.0)
        finish_run(tmp_path, base.with_(loss=1.0 + seed))
        better = base.with_(arm="scalar_l10", correct=[20] * 19 + [20 + gain])
        # a gain in score, at a loss that is higher by about 0.3 every time
        paths.append(finish_run(tmp_path, better.with_(loss=1.3 + seed * 1.01)))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm.startswith("score +2.75 pp and loss +0.3100 contradict each other")
    assert all(str(path) in alarm for path in paths)


def test_a_stage_that_repeats_seeds_confirms_nothing(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE.at("quick"))
    second = finish_run(tmp_path, BASE.at("medium"))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert "stage medium confirms nothing that stage quick has seen" in alarm
    assert str(second) in alarm


def test_repeated_seeds_of_another_budget_confirm_nothing_either(tmp_path: Path) -> None:
    first = finish_run(tmp_path, BASE.at("quick"))
    longer = {"budget.steps": 120}
    second = finish_run(tmp_path, BASE.with_(changes=longer, loss=0.5).at("medium"))
    finish_run(tmp_path, BASE.with_(changes=longer, seed=7, loss=0.7).at("medium"))
    (alarm,) = collect_runs([tmp_path]).alarms
    assert alarm == (
        f"stage medium repeats the seeds 0 of stage quick, so it confirms nothing: {second} and "
        f"{first}"
    )
