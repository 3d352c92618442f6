from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fseed.records import find_runs
from fseed.results.measurement import Measurement, Outlook, look_ahead, measure
from fseed.results.pairs import build_arms
from fseed.results.runs import load_run
from fseed.results.statistics import more_seeds_needed, smallest_detectable_effect
from tests.results.builders import RunSpec, finish_run

UNITS = (40,) * 20


def measured(root: Path, gains: Sequence[int], *, constant: float = 0.1) -> Measurement:
    """Measure an arm with ``gains`` more right units of 800 than a baseline at 400."""
    for seed, gain in enumerate(gains):
        base = RunSpec(seed=seed, correct=(20,) * 20, units=UNITS, constant=constant, loss=1 + seed)
        finish_run(root, base)
        correct = [20] * 19 + [20 + gain]
        finish_run(root, base.with_(arm="scalar_l10", correct=correct, loss=0.75 + seed))
    (arm,) = build_arms([load_run(record) for record in find_runs([root])])
    found = measure(arm.pairs)
    assert found is not None
    return found


def test_differences_are_told_by_seed(tmp_path: Path) -> None:
    found = measured(tmp_path, [8, -4, 0])
    assert found.by_seed == pytest.approx({0: 0.01, 1: -0.005, 2: 0.0})
    assert found.loss_differences is not None
    assert found.loss_differences.tolist() == pytest.approx([-0.25] * 3)
    assert found.can_be_tested


def test_two_seeds_or_no_spread_cannot_be_tested(tmp_path: Path) -> None:
    assert not measured(tmp_path / "a", [8, -4]).can_be_tested
    assert not measured(tmp_path / "b", [8, 8, 8]).can_be_tested


@pytest.mark.parametrize(("constant", "is_above"), [(0.1, True), (0.505, True), (0.6, False)])
def test_a_constant_answer_is_beaten_by_either_side(
    tmp_path: Path, constant: float, is_above: bool
) -> None:
    assert measured(tmp_path, [8, 9, 10], constant=constant).is_above_constant is is_above


def test_the_outlook_depends_on_the_level_of_the_family(tmp_path: Path) -> None:
    found = measured(tmp_path, [8, -4, 2, 6])
    deviation, effect = float(np.std(found.differences, ddof=1)), float(found.differences.mean())
    for significance in (0.05, 0.005):
        told = look_ahead(found, significance=significance)
        assert told.detectable == smallest_detectable_effect(
            deviation, num_seeds=4, significance=significance
        )
        assert told.more_seeds == more_seeds_needed(
            effect, deviation, num_seeds=4, significance=significance
        )
    alone, many = (look_ahead(found, significance=level) for level in (0.05, 0.005))
    assert alone.detectable is not None
    assert many.detectable is not None
    assert alone.detectable < many.detectable


def test_without_a_spread_over_seeds_the_outlook_says_what_is_missing(tmp_path: Path) -> None:
    assert look_ahead(measured(tmp_path / "a", [8]), significance=0.05) == Outlook(None, 2)
    assert look_ahead(measured(tmp_path / "b", [8] * 3), significance=0.05) == Outlook(None, None)
