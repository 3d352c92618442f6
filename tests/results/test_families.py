from collections.abc import Sequence
from pathlib import Path

import pytest

from fseed.records import find_runs
from fseed.results.collection import collect_runs
from fseed.results.comparison import Comparison
from fseed.results.families import BH, HOLM, NONE, judge_families
from fseed.results.measurement import measure
from fseed.results.multiplicity import benjamini_hochberg, holm
from fseed.results.pairs import build_arms
from fseed.results.runs import load_run
from fseed.results.statistics import paired_t_p_value
from tests.results.builders import RunSpec, finish_run
from tests.results.staged import decision_content, plan_arm, write_decisions, write_plan

# right answers more than the baseline's, of 800, by arm and seed
GAINS = {"strong": (20, 22, 24), "weak": (6, 14, 11), "none": (4, -6, 1)}


def write_arms(
    root: Path, gains: dict[str, Sequence[int]], *, stage: str = "plain", first_seed: int = 0
) -> None:
    for name, values in {"no_fs": (0,) * 3, **gains}.items():
        for seed, gain in enumerate(values, start=first_seed):
            correct = [20] * 19 + [20 + gain]
            loss = 1.0 + seed + len(name) / 100
            spec = RunSpec(arm=name, seed=seed, correct=correct, units=(40,) * 20, loss=loss)
            finish_run(root, spec.at(stage))


def rows_of(root: Path) -> dict[str, Comparison]:
    return {row.arm: row for row in collect_runs([root]).comparisons}


@pytest.mark.parametrize(
    ("stage", "name", "adjust"), [("confirm", HOLM, holm), ("quick", BH, benjamini_hochberg)]
)
def test_the_rows_of_a_table_are_one_family(
    tmp_path: Path, stage: str, name: str, adjust: object
) -> None:
    write_arms(tmp_path, GAINS, stage=stage)
    rows = rows_of(tmp_path)
    raw = [paired_t_p_value([gain / 800 for gain in GAINS[arm]]) for arm in rows]
    assert [row.p_value for row in rows.values()] == pytest.approx(raw)
    assert callable(adjust)
    assert [row.p_adjusted for row in rows.values()] == pytest.approx(adjust(raw).tolist())
    assert {(row.adjustment, row.family_size) for row in rows.values()} == {(name, 3)}


def test_significance_is_that_of_the_family(tmp_path: Path) -> None:
    write_arms(tmp_path, {"weak": (6, 14, 11), **{f"null_{i}": (4, -6, i) for i in range(8)}})
    row = rows_of(tmp_path)["weak"]
    assert row.interval_low is not None
    assert row.interval_low > 0
    assert (row.verdict, row.reason_code) == ("inconclusive", "family_not_significant")
    assert "by Benjamini-Hochberg over 9 arms" in row.reason
    assert row.more_seeds_needed is not None
    assert row.more_seeds_needed > 0
    assert f"about {row.more_seeds_needed} more seeds" in row.reason


def test_pruned_arms_count_in_the_family(tmp_path: Path) -> None:
    write_arms(tmp_path, {"strong": (20, 22, 24)}, stage="confirm", first_seed=6)
    alone = rows_of(tmp_path)["strong"]
    assert (alone.family_size, alone.verdict) == (1, "helps")
    folder = tmp_path / "default"
    write_plan(folder, [plan_arm("gone", "k1"), plan_arm("lost", "k2")])
    gone = [decision_content("gone", "k1"), decision_content("lost", "k2", stage="medium")]
    other_task = decision_content("far", "k3", task="squad")
    write_decisions(folder, [*gone, other_task])
    row = rows_of(tmp_path)["strong"]
    assert row.family_size == 3
    assert row.p_value == alone.p_value
    assert alone.p_value is not None
    assert row.p_adjusted == pytest.approx(3 * alone.p_value)


@pytest.mark.parametrize("damage", ["", "{]\n"])
def test_registered_arms_count_without_their_decisions(tmp_path: Path, damage: str) -> None:
    write_arms(tmp_path, {"strong": (20, 22, 24)}, stage="confirm", first_seed=6)
    key = str(rows_of(tmp_path)["strong"].arm_key)
    registered = [plan_arm("strong", key), plan_arm("gone", "k1"), plan_arm("lost", "k2")]
    control = plan_arm("other", "k3", control="same_layer", control_of="gone")
    folder = tmp_path / "default"
    write_plan(folder, [*registered, control])
    if damage:
        (folder / "decisions.jsonl").write_text(damage)
    assert rows_of(tmp_path)["strong"].family_size == 3


def test_settings_of_one_table_are_one_family(tmp_path: Path) -> None:
    for rate in (1e-4, 2e-4, 3e-4):
        for name, gains in {"no_fs": (0, 0, 0), "weak": (6, 14, 11)}.items():
            for seed, gain in enumerate(gains):
                correct = [20] * 19 + [20 + gain]
                changes = {"optim.lr": rate, "sweep.stage": "confirm"}
                told = {"correct": correct, "units": (40,) * 20, "loss": 1 + seed + rate}
                finish_run(tmp_path, RunSpec(arm=name, seed=seed, changes=changes, **told))
    rows = collect_runs([tmp_path]).comparisons
    assert [row.family_size for row in rows] == [3, 3, 3]
    assert {row.verdict for row in rows} == {"inconclusive"}
    assert {row.reason_code for row in rows} == {"family_not_significant"}


def test_an_arm_that_came_back_is_not_counted_twice(tmp_path: Path) -> None:
    write_arms(tmp_path, {"strong": (20, 22, 24)}, stage="confirm", first_seed=6)
    key = str(rows_of(tmp_path)["strong"].arm_key)
    write_decisions(tmp_path / "default", [decision_content("strong", key)])
    assert rows_of(tmp_path)["strong"].family_size == 1


def test_controls_stand_aside(tmp_path: Path) -> None:
    write_arms(tmp_path, GAINS)
    for seed in range(3):
        spec = RunSpec(arm="strong", seed=seed, correct=(20,) * 19 + (21 + seed,), units=(40,) * 20)
        finish_run(tmp_path, spec.control("shuffled_state").with_(loss=3.0 + seed))
    rows = rows_of(tmp_path)
    control = rows.pop("strong,control=shuffled_state")
    assert {row.family_size for row in rows.values()} == {3}
    assert (control.adjustment, control.family_size) == (NONE, 1)
    assert control.p_adjusted == control.p_value


def test_rows_without_a_test_count_as_p_of_one(tmp_path: Path) -> None:
    write_arms(tmp_path, {"strong": (20, 22, 24), "short": (20,)})
    runs = [load_run(record) for record in find_runs([tmp_path])]
    arms = build_arms(runs)
    families = judge_families(arms, [measure(arm.pairs) for arm in arms])
    by_label = {arm.label: one for arm, one in zip(arms, families, strict=True)}
    assert (by_label["short"].p_value, by_label["short"].p_adjusted) == (None, None)
    strong = by_label["strong"]
    assert strong.p_value is not None
    assert strong.p_adjusted == pytest.approx(2 * strong.p_value)
    assert strong.is_significant
    assert not by_label["short"].is_significant
