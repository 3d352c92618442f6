import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fseed.sweep import decisions
from fseed.sweep.decisions import REASONS, STAGES, Decision, Rules, decide, default_rungs, rungs_of

RACE = Rules("race", wanted_gain=0.01)
HALVING = Rules("halving", wanted_gain=0.01)
THRESHOLD = Rules("threshold", wanted_gain=0.01)
CLEAR_GAIN = [0.05, 0.051, 0.049]
CLEAR_LOSS = [-0.05, -0.051, -0.049]
SMALL_GAIN = [0.005, 0.0051, 0.0049]
WIDE_GAIN = [0.05, -0.01, 0.02]
WIDE_LOSS = [-0.05, 0.01, -0.02]

differences_by_arm = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.integers(-40, 40).map(lambda count: count / 200), max_size=6),
    max_size=7,
)


def ask(
    differences: Mapping[str, Sequence[float]],
    *,
    rules: Rules = RACE,
    stage: str = "quick",
    rung: int = 0,
    num_rungs: int = 1,
) -> list[tuple[str, str]]:
    found = decide(differences, stage=stage, rung=rung, num_rungs=num_rungs, rules=rules)
    assert [one.arm for one in found] == list(differences)
    return [(one.state, one.reason) for one in found]


class TestRace:
    @pytest.mark.parametrize(
        ("values", "early", "late"),
        [
            (CLEAR_GAIN, ("passed", "above_zero"), ("passed", "above_zero")),
            (CLEAR_LOSS, ("dropped", "below_wanted_gain"), ("dropped", "below_wanted_gain")),
            (SMALL_GAIN, ("dropped", "below_wanted_gain"), ("dropped", "below_wanted_gain")),
            (WIDE_GAIN, ("continues", "undecided"), ("passed", "promising")),
            (WIDE_LOSS, ("continues", "undecided"), ("dropped", "not_above_zero")),
            ([0.02] * 3, ("continues", "no_spread"), ("passed", "promising")),
            ([0.0] * 3, ("continues", "no_spread"), ("dropped", "out_of_reach")),
            ([0.1, 0.2], ("continues", "too_few_pairs"), ("dropped", "too_few_pairs")),
            ([], ("continues", "too_few_pairs"), ("dropped", "too_few_pairs")),
        ],
    )
    def test_every_branch_at_the_first_and_the_last_rung(
        self, values: list[float], early: tuple[str, str], late: tuple[str, str]
    ) -> None:
        assert ask({"arm": values}, num_rungs=2) == [early]
        assert ask({"arm": values}, rung=1, num_rungs=2) == [late]

    @pytest.mark.parametrize("num_rungs", [1, 3])
    def test_the_interval_is_scipys_at_the_split_significance(self, num_rungs: int) -> None:
        (found,) = decide(
            {"arm": WIDE_GAIN}, stage="quick", rung=0, num_rungs=num_rungs, rules=RACE
        )
        test: Any = stats.ttest_1samp(WIDE_GAIN, 0)
        expected = test.confidence_interval(1 - 0.05 / num_rungs)
        assert found.confidence == pytest.approx(1 - 0.05 / num_rungs)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert (found.p, found.difference) == pytest.approx((test.pvalue, 0.02))
        assert found.num_seeds == 3

    def test_more_rungs_make_a_pass_harder(self) -> None:
        values = [0.04, 0.05, 0.07]
        assert ask({"arm": values}, num_rungs=1) == [("passed", "above_zero")]
        assert ask({"arm": values}, num_rungs=9) == [("continues", "undecided")]

    @pytest.mark.parametrize(
        ("fraction", "state", "reason"),
        [
            (0.0, "passed", "promising"),
            (0.5, "passed", "promising"),
            (0.6, "dropped", "not_promising"),
        ],
    )
    def test_the_last_rung_may_ask_for_a_share_of_the_wanted_gain(
        self, fraction: float, state: str, reason: str
    ) -> None:
        # a mean of half the wanted gain, in a wide interval
        values = [0.035, -0.025, 0.005]
        rules = Rules("race", wanted_gain=0.01, promising_fraction=fraction)
        assert ask({"arm": values}, rules=rules) == [(state, reason)]
        assert ask({"arm": values}, rules=rules, num_rungs=2) == [("continues", "undecided")]

    def test_arms_do_not_touch_each_other(self) -> None:
        arms = {"a": CLEAR_GAIN, "b": CLEAR_LOSS, "c": WIDE_GAIN}
        alone = [ask({arm: values}, num_rungs=2)[0] for arm, values in arms.items()]
        assert ask(arms, num_rungs=2) == alone

    def test_the_text_tells_the_numbers(self) -> None:
        (found,) = decide({"arm": CLEAR_LOSS}, stage="quick", rung=0, num_rungs=1, rules=RACE)
        assert found.text == (
            "dropped: the interval ends below the wanted gain "
            "(-5.00 pp over 3 seeds, 95 % interval [-5.25, -4.75])"
        )


class TestHalving:
    @pytest.mark.parametrize(
        ("num_arms", "fraction", "kept"),
        [(1, 0.5, 1), (2, 0.5, 1), (5, 0.5, 3), (6, 1.0, 6), (30, 0.1, 3), (7, 1 / 3, 3)],
    )
    def test_keeps_the_best_rounded_up(self, num_arms: int, fraction: float, kept: int) -> None:
        rules = Rules("halving", 0.01, keep_fraction=fraction)
        arms = {f"arm{index}": [index / 100] for index in range(num_arms)}
        states = [state for state, _ in ask(arms, rules=rules)]
        assert states == ["dropped"] * (num_arms - kept) + ["passed"] * kept

    def test_of_equal_arms_the_first_given_stay(self) -> None:
        arms = {"b": [0.1], "a": [0.1], "c": [0.1]}
        kept = [("passed", "among_best")] * 2
        assert ask(arms, rules=HALVING) == [*kept, ("dropped", "not_among_best")]

    def test_survivors_go_on_until_the_last_rung(self) -> None:
        arms = {"a": [0.1], "b": [0.2]}
        found = ask(arms, rules=HALVING, num_rungs=2)
        assert found == [("dropped", "not_among_best"), ("continues", "among_best")]

    def test_an_arm_without_a_pair_is_dropped_and_still_counts(self) -> None:
        found = ask({"a": [], "b": [-0.1], "c": [-0.2]}, rules=HALVING)
        assert found == [("dropped", "too_few_pairs"), *[("passed", "among_best")] * 2]


class TestThreshold:
    @pytest.mark.parametrize(("stage", "threshold"), [("quick", 0.001), ("medium", 0.002)])
    def test_one_seed_at_the_threshold_passes(self, stage: str, threshold: float) -> None:
        # 0.301 - 0.3 and the like lie a rounding beside the threshold
        at = [0.3 + threshold - 0.3, 0.9 + threshold - 0.9]
        for value in at:
            assert ask({"a": [value]}, rules=THRESHOLD, stage=stage) == [
                ("passed", "reaches_threshold")
            ]
        below = {"a": [threshold - 0.0005]}
        assert ask(below, rules=THRESHOLD, stage=stage) == [("dropped", "below_threshold")]

    def test_several_seeds_count_with_their_mean(self) -> None:
        assert ask({"a": [0.004, -0.001]}, rules=THRESHOLD) == [("passed", "reaches_threshold")]
        assert ask({"a": [0.004, -0.004]}, rules=THRESHOLD) == [("dropped", "below_threshold")]

    def test_no_interval_is_told_for_one_seed(self) -> None:
        (found,) = decide({"a": [0.004]}, stage="quick", rung=0, num_rungs=1, rules=THRESHOLD)
        assert (found.low, found.high, found.confidence, found.p) == (None, None, None, None)
        assert found.text.endswith("(+0.40 pp over 1 seed)")

    def test_earlier_rungs_and_missing_runs(self) -> None:
        found = ask({"a": [0.5]}, rules=THRESHOLD, num_rungs=2)
        assert found == [("continues", "not_last_rung")]
        assert ask({"a": []}, rules=THRESHOLD) == [("dropped", "too_few_pairs")]


class TestAllRules:
    @settings(deadline=None)
    @given(
        arms=differences_by_arm,
        rules=st.sampled_from([RACE, HALVING, THRESHOLD]),
        stage=st.sampled_from(STAGES),
        num_rungs=st.integers(1, 4),
        rung=st.integers(0, 3),
    )
    def test_every_arm_gets_a_decision_with_a_known_reason(
        self,
        arms: dict[str, list[float]],
        rules: Rules,
        stage: str,
        num_rungs: int,
        rung: int,
    ) -> None:
        rung = min(rung, num_rungs - 1)
        found = decide(arms, stage=stage, rung=rung, num_rungs=num_rungs, rules=rules)
        again = decide(arms, stage=stage, rung=rung, num_rungs=num_rungs, rules=rules)
        assert found == again
        assert [one.arm for one in found] == list(arms)
        is_last = rung == num_rungs - 1
        for one in found:
            assert_consistent(one, values=arms[one.arm], is_last=is_last)
            assert stage != "confirm" or one.state != "dropped"

    @pytest.mark.parametrize("rules", [RACE, HALVING, THRESHOLD])
    def test_the_confirm_stage_drops_nothing(self, rules: Rules) -> None:
        arms = {"a": CLEAR_LOSS, "b": []}
        found = ask(arms, rules=rules, stage="confirm")
        assert found == [("passed", "no_dropping")] * 2

    @pytest.mark.parametrize("rules", [RACE, HALVING, THRESHOLD])
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_difference_that_is_not_finite_is_named(self, rules: Rules, bad: float) -> None:
        with pytest.raises(ValueError, match="arm broken: a difference is not finite"):
            ask({"fine": CLEAR_GAIN, "broken": [0.1, 0.2, bad]}, rules=rules)

    @pytest.mark.parametrize(("rung", "num_rungs"), [(-1, 2), (2, 2), (0, 0)])
    def test_rungs_are_counted_from_zero(self, rung: int, num_rungs: int) -> None:
        with pytest.raises(ValueError, match="counted from 0"):
            ask({"a": CLEAR_GAIN}, rung=rung, num_rungs=num_rungs)

    def test_an_unknown_stage_is_named_with_its_neighbour(self) -> None:
        with pytest.raises(ValueError, match=r"stage quik: .*did you mean quick"):
            ask({}, stage="quik")


def assert_consistent(one: Decision, *, values: list[float], is_last: bool) -> None:
    assert one.reason in REASONS
    assert one.state in ("passed", "dropped", "continues")
    assert not (is_last and one.state == "continues")
    assert one.text.startswith(f"{one.state}: {REASONS[one.reason]}")
    assert one.num_seeds == len(values)
    assert (one.difference is None) == (not values)
    assert (one.low is None) == (one.p is None) == (len(values) < 3)
    if one.difference is not None and one.low is not None and one.high is not None:
        assert one.low <= one.difference <= one.high
        assert one.difference == pytest.approx(np.mean(values))


class TestRules:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rule": "racing"}, "rule racing: .*did you mean .*race"),
            ({"wanted_gain": 0.0}, "wanted_gain"),
            ({"wanted_gain": math.nan}, "wanted_gain"),
            ({"wanted_gain": 1.5}, "wanted_gain"),
            ({"significance": 0.0}, "significance"),
            ({"significance": 1.0}, "significance"),
            ({"keep_fraction": 0.0}, "keep_fraction"),
            ({"keep_fraction": 1.1}, "keep_fraction"),
            ({"promising_fraction": -0.1}, "promising_fraction"),
            ({"promising_fraction": 1.1}, "promising_fraction"),
            ({"quick_threshold": math.nan}, "quick_threshold"),
        ],
    )
    def test_refuses_what_no_stage_could_work_with(
        self, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Rules(**({"rule": "race", "wanted_gain": 0.01} | change))


class TestDefaultRungs:
    @settings(deadline=None)
    @given(num_seeds=st.integers(3, 500))
    def test_grow_from_three_by_half_to_all_seeds(self, num_seeds: int) -> None:
        rungs = default_rungs(num_seeds)
        assert rungs[-1] == num_seeds
        assert min(rungs) >= 3
        assert all(later >= 1.5 * earlier for earlier, later in pairwise(rungs))

    @pytest.mark.parametrize("num_seeds", [0, 1, 2])
    def test_needs_three_seeds(self, num_seeds: int) -> None:
        with pytest.raises(ValueError, match="at least 3"):
            default_rungs(num_seeds)

    def test_a_threshold_is_asked_once(self) -> None:
        assert rungs_of("race", 8) == (3, 5, 8)
        assert rungs_of("halving", 5) == (3, 5)
        assert rungs_of("threshold", 1) == (1,)

    def test_the_docstring_is_true(self) -> None:
        told = (default_rungs.__doc__ or "").split(">>> ")[1].splitlines()
        assert str(eval(told[0], dict(vars(decisions)))) == told[1].strip()
