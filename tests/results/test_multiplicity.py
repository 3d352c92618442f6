import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from fseed.results.multiplicity import benjamini_hochberg, holm

METHODS = {"holm": holm, "fdr_bh": benjamini_hochberg}
p_value_lists = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@pytest.mark.parametrize("method", METHODS)
class TestBoth:
    @settings(deadline=None)
    @given(p_values=p_value_lists)
    def test_equals_statsmodels(self, method: str, p_values: list[float]) -> None:
        expected = multipletests(p_values, method=method)[1]
        assert METHODS[method](p_values) == pytest.approx(expected, rel=1e-12, abs=1e-300)

    def test_ties_ones_and_zeros(self, method: str) -> None:
        p_values = [0.02, 1.0, 0.02, 0.0, 0.02, 1.0]
        expected = multipletests(p_values, method=method)[1]
        assert METHODS[method](p_values) == pytest.approx(expected)

    @settings(deadline=None)
    @given(p_values=p_value_lists, num_pruned=st.integers(0, 20))
    def test_pruned_arms_count_as_ones(
        self, method: str, p_values: list[float], num_pruned: int
    ) -> None:
        size = len(p_values) + num_pruned
        whole = METHODS[method](p_values + [1.0] * num_pruned)
        assert METHODS[method](p_values, family_size=size) == pytest.approx(
            whole[: len(p_values)], rel=1e-12
        )

    @settings(deadline=None)
    @given(p_values=p_value_lists, generator_seed=st.integers(0, 1000))
    def test_the_order_given_is_kept(
        self, method: str, p_values: list[float], generator_seed: int
    ) -> None:
        order = np.random.default_rng(generator_seed).permutation(len(p_values))
        shuffled: NDArray[np.float64] = np.asarray(p_values)[order]
        assert METHODS[method](shuffled) == pytest.approx(METHODS[method](p_values)[order])

    def test_one_test_is_not_adjusted_and_none_gives_none(self, method: str) -> None:
        assert METHODS[method]([0.04]).tolist() == [0.04]
        assert METHODS[method]([]).tolist() == []

    @pytest.mark.parametrize("bad", [[float("nan")], [-0.1], [1.1], [[0.1, 0.2]]])
    def test_refuses_what_is_no_probability(self, method: str, bad: list[float]) -> None:
        with pytest.raises(ValueError, match="numbers from 0 to 1"):
            METHODS[method](bad)

    def test_refuses_a_family_smaller_than_its_tests(self, method: str) -> None:
        with pytest.raises(ValueError, match="family of 1 cannot hold 2"):
            METHODS[method]([0.1, 0.2], family_size=1)


def test_holm_is_never_below_benjamini_hochberg() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, (200, 8))
    for row in p_values:
        assert (holm(row) >= benjamini_hochberg(row) - 1e-15).all()
        assert (benjamini_hochberg(row) >= row).all()
