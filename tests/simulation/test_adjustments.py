import numpy as np
import pytest

from fseed.simulation.adjustments import (
    ADJUSTMENTS,
    NUM_ARMS,
    draw_p_values,
    false_share,
    reject,
    study_adjustments,
)
from fseed.simulation.rates import count
from fseed.simulation.scores import WORLDS


@pytest.mark.parametrize("num_planted", [0, 4])
def test_error_rates_are_kept_and_power_is_ordered(num_planted: int) -> None:
    p_values = draw_p_values(
        WORLDS[0], num_planted, num_families=500, generator=np.random.default_rng(num_planted)
    )
    assert p_values.shape == (500, NUM_ARMS)
    rejected = {name: reject(p_values, name) for name in ADJUSTMENTS}
    any_false = {
        name: count(flags[:, num_planted:].any(axis=1)) for name, flags in rejected.items()
    }
    assert any_false["Holm"].against_most(0.05) == "kept"
    assert any_false["none"].low > 0.1
    assert false_share(rejected["Benjamini-Hochberg"], num_planted) < 0.08
    sizes = [flags.sum() for flags in rejected.values()]
    assert sizes[0] >= sizes[2] >= sizes[1]


def test_uniform_p_values_of_true_nulls() -> None:
    p_values = draw_p_values(WORLDS[0], 0, num_families=400, generator=np.random.default_rng(7))
    assert p_values.mean() == pytest.approx(0.5, abs=0.04)


def test_a_family_without_a_rejection_has_no_false_share() -> None:
    rejected = np.array([[False, False, False], [True, True, False], [True, False, False]])
    assert false_share(rejected, 1) == pytest.approx((0 + 0.5 + 0) / 3)


def test_the_table_has_every_world_and_adjustment() -> None:
    table = study_adjustments(num_families=5, generator=np.random.default_rng(8))
    assert len(table.rows) == len(WORLDS) * 3 * len(ADJUSTMENTS)
