import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fseed.simulation.pipeline import Design, judge, run_stage, search
from fseed.simulation.scores import WORLDS
from fseed.sweep.decisions import Rules

NORMAL = WORLDS[0]
RACE = Rules("race", wanted_gain=0.01)
NULLS = np.zeros(4)


def rows(*means: float, num_seeds: int = 5) -> np.ndarray:
    """Return differences [A, S] with the given means and a small spread."""
    return np.array(means)[:, None] + 0.0001 * np.arange(num_seeds)


class TestRunStage:
    def test_an_arm_stops_at_the_rung_that_decides(self) -> None:
        wide = np.array([0.05, -0.05, 0.02, 0.03, 0.01])
        differences = np.vstack([rows(0.05, -0.05), wide])
        seeds, passed = run_stage(differences, [0, 1, 2], stage="quick", rules=RACE)
        # two are clear after the three seeds of the first rung
        assert seeds == {0: 3, 1: 3, 2: 5}
        assert passed == [0, 2]

    def test_only_the_arms_given_take_part(self) -> None:
        seeds, passed = run_stage(rows(0.05, 0.05, 0.05), [1], stage="medium", rules=RACE)
        assert (seeds, passed) == ({1: 3}, [1])

    def test_halving_keeps_the_best_at_every_rung(self) -> None:
        rules = Rules("halving", wanted_gain=0.01)
        differences = rows(0.01, 0.04, 0.03, 0.02)
        seeds, passed = run_stage(differences, range(4), stage="quick", rules=rules)
        assert seeds == {0: 3, 1: 5, 2: 5, 3: 3}
        assert passed == [1]

    def test_threshold_has_another_bar_at_medium(self) -> None:
        rules = Rules("threshold", wanted_gain=0.01)
        differences = np.array([[0.0015], [0.0025]])
        for stage, expected in (("quick", [0, 1]), ("medium", [1])):
            seeds, passed = run_stage(differences, [0, 1], stage=stage, rules=rules)
            assert (seeds, passed) == ({0: 1, 1: 1}, expected)


class TestJudge:
    @pytest.mark.parametrize(("method", "name"), [("holm", "holm"), ("bh", "fdr_bh")])
    def test_equals_scipy_and_statsmodels(self, method: str, name: str) -> None:
        generator = np.random.default_rng(0)
        for _ in range(50):
            values = generator.normal(0.02, 0.02, (6, 5)) * np.array([1, 1, 0, -1, 0, 0])[:, None]
            values += generator.normal(0, 0.005, values.shape)
            p_values = stats.ttest_1samp(values, 0, axis=1).pvalue
            padded = [*p_values, 1.0, 1.0]
            rejected = multipletests(padded, alpha=0.05, method=name)[0][:6]
            expected = np.where(rejected, np.sign(values.mean(axis=1)), 0)
            assert judge(list(values), family_size=8, method=method).tolist() == expected.tolist()

    def test_pruned_arms_make_a_verdict_harder(self) -> None:
        values = [np.array([0.02, 0.03, 0.045, 0.01, 0.03])]
        assert judge(values, family_size=1).tolist() == [1]
        assert judge(values, family_size=20).tolist() == [0]
        assert judge([-values[0]], family_size=1).tolist() == [-1]


class TestSearch:
    def test_without_a_search_every_arm_is_confirmed_and_paid_for(self) -> None:
        design = Design(RACE, 0, 0, 5)
        outcome = search(NORMAL, NULLS, design, num_families=20, generator=np.random.default_rng(0))
        assert outcome.kept.all()
        assert outcome.num_runs.tolist() == [(4 + 1) * 5] * 20

    def test_a_pruned_arm_has_no_verdict_and_costs_nothing_more(self) -> None:
        design = Design(RACE, 3, 0, 5)
        outcome = search(
            NORMAL, [-0.3, 0.3], design, num_families=20, generator=np.random.default_rng(1)
        )
        assert not outcome.kept[:, 0].any()
        assert not outcome.claims[:, 0].any()
        assert outcome.helps[:, 1].all()
        # three seeds of two arms and a baseline, five of one arm and a baseline
        assert outcome.num_runs.tolist() == [3 * 3 + 2 * 5] * 20
        assert outcome.explored.all()

    def test_what_hurts_is_told_where_nothing_prunes_it(self) -> None:
        design = Design(RACE, 0, 0, 5)
        outcome = search(
            NORMAL, [-0.3, 0.0], design, num_families=20, generator=np.random.default_rng(2)
        )
        assert outcome.hurts[:, 0].all()
        assert not outcome.helps[:, 0].any()

    def test_without_a_confirmation_there_is_no_verdict(self) -> None:
        outcome = search(
            NORMAL,
            [0.3],
            Design(Rules("threshold", 0.01), 1, 1, 0),
            num_families=20,
            generator=np.random.default_rng(3),
        )
        assert outcome.kept.all()
        assert not outcome.claims.any()
        assert outcome.num_runs.tolist() == [4] * 20

    def test_a_family_that_loses_all_arms_stops(self) -> None:
        outcome = search(
            NORMAL,
            [-0.3, -0.3],
            Design(RACE, 3, 3, 5),
            num_families=5,
            generator=np.random.default_rng(4),
        )
        assert not outcome.kept.any()
        assert outcome.num_runs.tolist() == [9] * 5
