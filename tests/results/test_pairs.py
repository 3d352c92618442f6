from collections.abc import Sequence
from pathlib import Path

import pytest

from fseed.records import find_runs
from fseed.results.pairs import Arm, Baselines, build_arms
from fseed.results.runs import Run, load_run
from tests.results.builders import RunSpec, fail_run, finish_run, start_run

BASE = RunSpec()
ARM = RunSpec(arm="scalar_l10", correct=(2, 1, 1, 1))


def arms_of(root: Path) -> list[Arm]:
    return build_arms([load_run(record) for record in find_runs([root])])


def write(root: Path, *specs: RunSpec) -> None:
    for spec in specs:
        finish_run(root, spec)


def seeds_of(arms: Sequence[Arm]) -> list[list[int | None]]:
    return [[run.seed for run in arm.runs] for arm in arms]


def test_each_seed_meets_its_own_baseline(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, BASE.with_(seed=seed), ARM.with_(seed=seed))
    (arm,) = arms_of(tmp_path)
    assert arm.label == "scalar_l10"
    assert [(run.seed, base.seed) for run, base in arm.pairs] == [(0, 0), (1, 1), (2, 2)]
    assert all(run.pair_key == base.pair_key for run, base in arm.pairs)
    assert arm.gaps == []


def test_other_budgets_make_other_rows_and_never_a_pair(tmp_path: Path) -> None:
    longer = ARM.with_(changes={"budget.steps": 120})
    write(tmp_path, BASE, ARM, longer)
    short, long = sorted(arms_of(tmp_path), key=lambda arm: len(arm.gaps))
    assert (short.setting, long.setting) == ("budget.steps=40", "budget.steps=120")
    assert long.pairs == []
    assert long.gaps[0].code == "no_matched_baseline"
    assert long.gaps[0].text == "nearest no_fs run differs: budget.steps 120 vs 40"


def test_sources_are_never_pooled(tmp_path: Path) -> None:
    write(tmp_path, BASE, ARM, ARM.with_(seed=1, changes={"data.source": "local"}))
    mini, local = sorted(arms_of(tmp_path), key=lambda arm: arm.runs[0].seed or 0)
    assert len(mini.pairs) == 1
    assert local.pairs == []
    assert "data.source local vs mini" in local.gaps[0].text


def test_an_edited_pair_key_does_not_join_two_sources(tmp_path: Path) -> None:
    write(tmp_path, BASE, ARM.with_(changes={"data.source": "local"}))
    runs = [load_run(record) for record in find_runs([tmp_path])]
    for run in runs:
        run.record.provenance["pair_key"] = "0000000000"
    (arm,) = build_arms(runs)
    assert arm.pairs == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 3}, "nearest no_fs run differs: seed 3 vs 0"),
        ({"optim.lr": 0.1, "budget.batch_size": 2}, "budget.batch_size 2 vs 8, optim.lr 0.1 vs"),
    ],
)
def test_the_nearest_baseline_is_described(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    far = BASE.with_(changes={"budget.steps": 7, "budget.batch_size": 3, "optim.lr": 5.0})
    write(tmp_path, BASE, far, ARM.with_(changes=changes))
    (arm,) = arms_of(tmp_path)
    assert text in arm.gaps[0].text


def test_the_nearest_baseline_is_one_of_the_same_seed(tmp_path: Path) -> None:
    other = BASE.with_(changes={"budget.steps": 7, "optim.lr": 5.0})
    write(tmp_path, other, BASE.with_(seed=1), ARM.with_(changes={"budget.steps": 8}))
    (arm,) = arms_of(tmp_path)
    assert arm.gaps[0].text.startswith("nearest no_fs run differs: budget.steps 8 vs 7, optim.lr")


def test_baselines_are_described_once_not_once_an_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *(BASE.with_(seed=seed) for seed in range(20)))
    code = {"code_hash": "f" * 64}
    write(tmp_path, *(ARM.with_(seed=seed + 30, provenance=code) for seed in range(20)))
    calls = []
    settings = Run.plain_settings.func

    def count(run: Run) -> dict[str, object]:
        calls.append(run)
        return settings(run)

    monkeypatch.setattr(Run, "plain_settings", property(count))
    (arm,) = arms_of(tmp_path)
    assert len(arm.gaps) == 20
    # 20 baselines beside each of 20 arms would be 400
    assert len(calls) < 200


def test_seeds_of_the_baselines_that_a_row_lacks(tmp_path: Path) -> None:
    write(tmp_path, *(BASE.with_(seed=seed) for seed in range(4)), ARM.with_(seed=1))
    write(tmp_path, BASE.with_(seed=5, changes={"budget.steps": 7}))
    fail_run(tmp_path, ARM.with_(seed=2))
    (arm,) = arms_of(tmp_path)
    # a seed that failed is a gap, not a seed that was left out
    assert arm.lacking == [0, 3]


def test_stages_stop_arms_early_so_no_seed_is_missed(tmp_path: Path) -> None:
    write(tmp_path, *(BASE.with_(seed=seed).at("quick") for seed in range(4)), ARM.at("quick"))
    (arm,) = arms_of(tmp_path)
    assert arm.lacking == []


def test_baselines_are_found_by_key_seed_and_settings(tmp_path: Path) -> None:
    write(tmp_path, BASE, BASE.with_(seed=1), ARM.with_(seed=1), ARM.with_(seed=9))
    runs = [load_run(record) for record in find_runs([tmp_path])]
    plain = Baselines([run for run in runs if run.is_baseline])
    first, ninth = sorted(
        (run for run in runs if not run.is_baseline), key=lambda run: str(run.seed)
    )
    found = plain.find(first)
    assert found is not None
    assert (found.seed, plain.find(ninth)) == (1, None)
    assert [run.seed for run, _ in plain.near(first)] == [1]
    # the seed has none, and those of other seeds all have the same settings
    assert len(plain.near(ninth)) == 1
    assert plain.lacking([first]) == [0]


def test_changed_data_and_code_are_told_by_their_hashes(tmp_path: Path) -> None:
    write(tmp_path, BASE, ARM.with_(provenance={"data_hash": "e" * 64, "code_hash": "f" * 64}))
    (arm,) = arms_of(tmp_path)
    expected = "nearest no_fs run differs: code_hash ffffffff vs cccccccc, data_hash eeeeeeee vs"
    assert expected in arm.gaps[0].text


def test_a_baseline_that_failed_is_named(tmp_path: Path) -> None:
    fail_run(tmp_path, BASE, kind="nan", message="loss is nan")
    write(tmp_path, ARM)
    (arm,) = arms_of(tmp_path)
    assert arm.gaps[0].text == "its no_fs run is failed (nan: loss is nan)"


def test_without_any_baseline(tmp_path: Path) -> None:
    write(tmp_path, ARM)
    (arm,) = arms_of(tmp_path)
    assert arm.gaps[0].text == "no no_fs run of task hotpot here"


def test_paths_threads_and_sweeps_do_not_split_a_row(tmp_path: Path) -> None:
    moved = {"data.root": "/elsewhere", "trainer.num_threads": 2, "output.root": "/tmp/x"}
    write(tmp_path, ARM, ARM.with_(seed=1, sweep="second", changes=moved))
    assert seeds_of(arms_of(tmp_path)) == [[0, 1]]


def test_one_label_for_two_arms_shows_their_keys(tmp_path: Path) -> None:
    write(tmp_path, ARM, ARM.with_(seed=1, changes={"lstart": 9}))
    arms = arms_of(tmp_path)
    assert [arm.label for arm in arms] == sorted(
        f"scalar_l10 [{arm.runs[0].arm_key[:6]}]" for arm in arms if arm.runs[0].arm_key
    )


def test_options_that_the_arm_never_reads_do_not_split_a_row(tmp_path: Path) -> None:
    key = {"arm_key": "ab" * 5}
    first = start_run(tmp_path, ARM.with_(provenance=key))
    second = start_run(tmp_path, ARM.with_(seed=1, changes={"schedule.low": 0.5}, provenance=key))
    assert first != second
    assert seeds_of(arms_of(tmp_path)) == [[0, 1]]


def test_a_control_without_future_seed_is_an_arm(tmp_path: Path) -> None:
    control = RunSpec(arm="no_fs,control=repeat_prompt", changes={"control.kind": "repeat_prompt"})
    control = control.with_(changes={"control.kind": "repeat_prompt", "fs.mode": "no_fs"})
    write(tmp_path, BASE, control)
    (arm,) = arms_of(tmp_path)
    assert len(arm.pairs) == 1


class TestRunsThatEndedEarly:
    def test_they_count_in_the_rows_of_their_folder(self, tmp_path: Path) -> None:
        write(tmp_path, BASE, ARM)
        folder = tmp_path / "default" / "hotpot" / "plain" / "scalar_l10"
        (folder / "s1-0123456789").mkdir()
        (arm,) = arms_of(tmp_path)
        assert [(gap.run.seed, gap.code) for gap in arm.gaps] == [(1, "unfinished")]

    def test_they_do_not_repeat_a_seed_that_is_there(self, tmp_path: Path) -> None:
        write(tmp_path, BASE, ARM)
        folder = tmp_path / "default" / "hotpot" / "plain" / "scalar_l10"
        (folder / "s0-0123456789").mkdir()
        (arm,) = arms_of(tmp_path)
        assert arm.gaps == []

    def test_alone_they_make_a_row(self, tmp_path: Path) -> None:
        for seed in (1, 0):
            (tmp_path / "d" / "hotpot" / "plain" / "raw_l9" / f"s{seed}-0123456789").mkdir(
                parents=True
            )
        (arm,) = arms_of(tmp_path)
        assert (arm.label, arm.runs[0].labels) == ("raw_l9", ("hotpot", "?", "?", "plain"))
        assert seeds_of([arm]) == [[0, 1]]

    def test_an_early_baseline_is_no_arm(self, tmp_path: Path) -> None:
        (tmp_path / "d" / "hotpot" / "plain" / "no_fs" / "s0-0123456789").mkdir(parents=True)
        assert arms_of(tmp_path) == []
