from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fseed.results.collection import collect_runs
from fseed.results.comparison import Comparison, as_row
from fseed.results.measurement import OVER_ITEMS, OVER_SEEDS
from fseed.results.verdicts import REASONS, VERDICTS
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep

UNITS = (10,) * 20
BASE = RunSpec(correct=(5,) * 20, units=UNITS, loss=1.0)


def arm_with(*, right: int, seed: int, loss: float = 0.9, arm: str = "scalar_l10") -> RunSpec:
    """Return an arm with ``right`` more units than the baseline's 100 of 200."""
    correct = np.full(20, 5) + np.bincount(np.arange(abs(right)) % 20, minlength=20) * np.sign(
        right
    )
    return RunSpec(arm=arm, seed=seed, correct=correct.tolist(), units=UNITS, loss=loss)


def compare(root: Path, *, rights: Sequence[int]) -> Comparison:
    for seed, right in enumerate(rights):
        finish_run(root, BASE.with_(seed=seed, loss=1.0 + seed))
        finish_run(root, arm_with(right=right, seed=seed, loss=0.9 + seed))
    (row,) = collect_runs([root]).comparisons
    assert row.verdict in VERDICTS
    assert row.reason_code in REASONS
    return row


def test_three_seeds_give_a_t_interval_and_a_verdict(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[10, 12, 14])
    expected = stats.ttest_1samp([0.05, 0.06, 0.07], 0).confidence_interval()
    assert row.difference == pytest.approx(0.06)
    assert (row.interval_low, row.interval_high) == pytest.approx((expected.low, expected.high))
    assert (row.interval_kind, row.seeds, row.num_pairs) == (OVER_SEEDS, "0,1,2", 3)
    assert (row.num_up, row.num_tied, row.num_down) == (3, 0, 0)
    assert (row.num_examples, row.num_units) == (20, 200)
    assert (row.baseline_value, row.arm_value) == pytest.approx((0.5, 0.56))
    assert row.loss_difference == pytest.approx(-0.1)
    assert (row.verdict, row.reason_code) == ("helps", "interval_above_zero")
    assert row.bootstrap_low is not None
    assert row.bootstrap_high is not None
    assert row.bootstrap_low < 0.06 < row.bootstrap_high


def test_a_loss_is_told_as_clearly_as_a_gain(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[-10, -12, -14])
    assert (row.verdict, row.reason_code) == ("hurts", "interval_below_zero")
    assert (row.num_up, row.num_tied, row.num_down) == (0, 0, 3)


def test_noise_is_inconclusive_with_what_could_be_found(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[10, -8, 4])
    assert (row.verdict, row.reason_code) == ("inconclusive", "interval_holds_zero")
    assert row.detectable_difference is not None
    assert row.more_seeds_needed is not None
    assert f"{100 * row.detectable_difference:.2f} pp" in row.reason
    assert f"about {row.more_seeds_needed} more seeds" in row.reason


def test_one_pair_says_that_seed_variance_is_not_measured(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[60])
    assert (row.verdict, row.reason_code) == ("inconclusive", "too_few_seeds")
    assert row.interval_kind == OVER_ITEMS
    assert row.interval_low is not None
    assert row.interval_low > 0
    assert row.mcnemar_p == 1.0
    assert "seed variance not measured" in row.reason


def test_two_pairs_have_an_interval_over_examples_only(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[60, 61])
    assert (row.verdict, row.reason_code) == ("inconclusive", "too_few_seeds")
    assert (row.interval_kind, row.mcnemar_p) == (OVER_ITEMS, None)
    assert row.reason.startswith("2 pairs, seed variance not measured")


def test_equal_differences_are_no_proof(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[10, 10, 10])
    assert (row.verdict, row.reason_code) == ("inconclusive", "identical_differences")


def test_bit_equal_runs_are_a_no_op(tmp_path: Path) -> None:
    for seed in range(3):
        base = BASE.with_(seed=seed, loss=1.0 + seed)
        finish_run(tmp_path, base)
        finish_run(tmp_path, base.with_(arm="scalar_l10"))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code, row.difference) == ("no_op", "bit_equal", 0.0)
    assert "A/A" not in row.reason


def test_equal_scores_with_other_predictions_are_no_no_op(tmp_path: Path) -> None:
    for seed in range(3):
        base = BASE.with_(seed=seed, loss=1.0 + seed)
        finish_run(tmp_path, base)
        finish_run(tmp_path, base.with_(arm="scalar_l10", predictions=["x"] * 19 + ["y"]))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == ("inconclusive", "identical_differences")


def test_a_failed_seed_withholds_the_verdict(tmp_path: Path) -> None:
    fail_run(tmp_path, arm_with(right=0, seed=3), kind="nan", message="loss is nan")
    row = compare(tmp_path, rights=[10, 12, 14])
    assert (row.verdict, row.reason_code) == ("inconclusive", "incomplete_seeds")
    assert row.reason.startswith("seed 3: failed, nan: loss is nan")
    assert (row.num_runs, row.num_pairs) == (4, 3)
    assert row.difference == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("end", "verdict", "text"),
    [
        ("failed", "failed", "seeds 0,1: failed, oom: no memory"),
        ("unfinished", "unfinished", "seeds 0,1: unfinished, no result.json yet"),
        ("invalid", "invalid", "seeds 0,1: invalid, loss is nan after the last step"),
        ("lonely", "no_matched_baseline", "no no_fs run of task hotpot here"),
    ],
)
def test_rows_without_a_pair_carry_a_reason_and_no_number(
    tmp_path: Path, end: str, verdict: str, text: str
) -> None:
    for seed in (0, 1):
        spec = arm_with(right=10, seed=seed)
        if end == "failed":
            fail_run(tmp_path, spec)
        elif end == "unfinished":
            start_run(tmp_path, spec)
        else:
            finish_run(tmp_path, spec.with_(loss=float("nan") if end == "invalid" else 1.0 + seed))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == (verdict, verdict)
    assert text in row.reason
    assert row.difference is None
    assert row.interval_low is None
    assert row.num_up is None


def test_unreadable_runs_make_an_invalid_row(tmp_path: Path) -> None:
    path = finish_run(tmp_path, arm_with(right=10, seed=0))
    (path / "result.json").write_text("{")
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == ("invalid", "unreadable")


def test_other_examples_are_never_compared(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    other = arm_with(right=10, seed=0).with_(ids=[f"other-{i}" for i in range(20)])
    finish_run(tmp_path, other)
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == ("invalid", "different_examples")
    assert row.difference is None


def test_an_arm_that_a_constant_answer_beats_is_marked(tmp_path: Path) -> None:
    for seed, right in enumerate([10, 12, 14]):
        finish_run(tmp_path, BASE.with_(seed=seed, constant=0.6, loss=1.0 + seed))
        finish_run(tmp_path, arm_with(right=right, seed=seed).with_(constant=0.6))
    (row,) = collect_runs([tmp_path]).comparisons
    assert row.beats_constant is False
    assert (row.verdict, row.reason_code) == ("inconclusive", "below_constant")
    assert row.reason.endswith("not above the constant answer (60.0 %)")


def test_one_example_has_no_interval(tmp_path: Path) -> None:
    finish_run(tmp_path, RunSpec(correct=[1], units=[2]))
    finish_run(tmp_path, RunSpec(arm="scalar_l10", correct=[2], units=[2]))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.interval_low) == ("inconclusive", None)


def test_rows_are_the_same_every_time_and_alone(tmp_path: Path) -> None:
    write_sweep(tmp_path, arms={"scalar_l10": 0.1, "head_l10": 0.0}, num_seeds=3)
    both = collect_runs([tmp_path]).comparisons
    assert collect_runs([tmp_path]).comparisons == both
    plain = tmp_path / "default" / "hotpot" / "plain"
    alone = collect_runs([plain / "no_fs", plain / "scalar_l10"]).comparisons
    # what another arm changes is what depends on the number of arms tested
    of_family = {
        *("p_adjusted", "family_size", "detectable_difference", "more_seeds_needed", "reason"),
    }

    def own(row: Comparison) -> dict[str, Any]:
        return {key: value for key, value in as_row(row).items() if key not in of_family}

    (kept,) = (row for row in both if row.arm == "scalar_l10")
    assert [own(row) for row in alone] == [own(kept)]
    assert (alone[0].family_size, kept.family_size) == (1, 2)


def test_null_sweeps_rarely_claim_an_effect(tmp_path: Path) -> None:
    arms = {f"null_{index}": 0.0 for index in range(30)}
    write_sweep(tmp_path, arms=arms, num_seeds=3, num_examples=30)
    rows = collect_runs([tmp_path]).comparisons
    claims = [row for row in rows if row.verdict in ("helps", "hurts")]
    assert len(rows) == 30
    # 5 % of 30 are 1.5; the arms share their baselines, so claims come in bunches
    assert len(claims) <= 6


def test_planted_effects_are_found(tmp_path: Path) -> None:
    write_sweep(tmp_path, arms={"up": 0.25, "down": -0.25}, num_seeds=4)
    verdicts = {row.arm: row.verdict for row in collect_runs([tmp_path]).comparisons}
    assert verdicts == {"up": "helps", "down": "hurts"}


def test_a_small_difference_is_equivalent_for_the_stated_margin(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[1, -1, 0, 1, -1])
    spread = [0.005, -0.005, 0.0, 0.005, -0.005]
    below = stats.ttest_1samp(spread, 0.01, alternative="less").pvalue
    above = stats.ttest_1samp(spread, -0.01, alternative="greater").pvalue
    assert row.equivalence_p == pytest.approx(max(below, above))
    assert row.equivalence_margin == 0.01
    assert (row.verdict, row.reason_code) == ("equivalent", "inside_margin")
    assert "inside +-1 pp" in row.reason
    (narrow,) = collect_runs([tmp_path], margin=0.002).comparisons
    assert (narrow.verdict, narrow.equivalence_margin) == ("inconclusive", 0.002)


def test_an_effect_inside_the_margin_is_still_an_effect(tmp_path: Path) -> None:
    compare(tmp_path, rights=[2, 3, 4])
    (row,) = collect_runs([tmp_path], margin=0.2).comparisons
    assert row.equivalence_p is not None
    assert row.equivalence_p < 0.05
    assert row.verdict == "helps"
    assert "; inside the margin of 20 pp" in row.reason
    (wide,) = collect_runs([tmp_path], margin=0.001).comparisons
    assert "inside the margin" not in wide.reason


@pytest.mark.parametrize("rights", [(10, 12, 14), (-10, -12, -14), (1, -1, 0)])
def test_a_stage_that_chooses_arms_claims_nothing(tmp_path: Path, rights: Sequence[int]) -> None:
    for stage in ("quick", "confirm"):
        for seed, right in enumerate(rights, start=10 * (stage == "confirm")):
            finish_run(tmp_path, BASE.with_(seed=seed, loss=1.0 + seed).at(stage))
            finish_run(tmp_path, arm_with(right=right, seed=seed, loss=0.9 + seed).at(stage))
    rows = {row.stage: row for row in collect_runs([tmp_path], margin=0.02).comparisons}
    assert (rows["quick"].verdict, rows["quick"].reason_code) == ("inconclusive", "selection_stage")
    expected = {10: "helps", -10: "hurts", 1: "equivalent"}[rights[0]]
    assert rows["confirm"].verdict == expected
    assert rows["quick"].p_value == rows["confirm"].p_value


def test_seeds_that_the_row_lacks_are_told(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE.with_(seed=7, loss=9.0))
    fail_run(tmp_path, BASE.with_(seed=8, loss=9.5))
    row = compare(tmp_path, rights=[10, 12, 14])
    assert row.reason.endswith("; no_fs has finished seeds that this row lacks: 7")


def test_constant_predictors_are_never_equivalent(tmp_path: Path) -> None:
    for seed, right in enumerate([1, -1, 0, 1, -1]):
        finish_run(tmp_path, BASE.with_(seed=seed, constant=0.6, loss=1.0 + seed))
        finish_run(tmp_path, arm_with(right=right, seed=seed, loss=2 + seed).with_(constant=0.6))
    (row,) = collect_runs([tmp_path]).comparisons
    assert (row.verdict, row.reason_code) == ("inconclusive", "not_above_constant")
    assert "detectable with power 0.8" in row.reason


@pytest.mark.parametrize("rights", [[60], [60, 61], [10, 10, 10], [10, -8, 4], [10, 11, -9, 3]])
def test_every_inconclusive_row_says_what_more_seeds_could_show(
    tmp_path: Path, rights: list[int]
) -> None:
    row = compare(tmp_path, rights=rights)
    assert row.verdict == "inconclusive"
    assert "detectable" in row.reason
    assert "seeds" in row.reason
    if len(rights) < 3:
        assert row.more_seeds_needed == 3 - len(rights)


def test_p_values_are_those_of_the_paired_t_test(tmp_path: Path) -> None:
    row = compare(tmp_path, rights=[10, -8, 4, 7])
    assert row.p_value == pytest.approx(stats.ttest_1samp([0.05, -0.04, 0.02, 0.035], 0).pvalue)
    assert row.p_adjusted == row.p_value
    assert (row.family_size, row.adjustment) == (1, "bh")
