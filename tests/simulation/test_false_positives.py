from dataclasses import replace

import numpy as np
import pytest

from fseed.simulation.false_positives import (
    NUM_ARMS,
    NUM_TASKS,
    default_design,
    designs,
    of_sweeps,
    simulate_nulls,
    study_false_positives,
)
from fseed.simulation.pipeline import Design
from fseed.simulation.rates import Rate, count
from fseed.simulation.scores import WORLDS, World

AA_WORLDS = [world for world in WORLDS if world.is_aa]


@pytest.mark.parametrize("design", designs().values(), ids=list(designs()))
def test_arms_that_do_nothing_rarely_get_a_verdict(design: Design) -> None:
    outcome = simulate_nulls(WORLDS[0], design, num_sweeps=100, generator=np.random.default_rng(0))
    assert outcome.claims.shape == (100 * NUM_TASKS, NUM_ARMS)
    rate = count(outcome.claims.any(axis=1))
    assert rate.against_most(0.05) == "kept"
    assert rate.value <= 0.05
    # the pipeline must be awake: arms do get through to the confirmation
    assert outcome.kept.any(axis=1).mean() > 0.3


def test_passing_two_thresholds_is_no_evidence() -> None:
    outcome = simulate_nulls(
        WORLDS[0], default_design("threshold"), num_sweeps=100, generator=np.random.default_rng(1)
    )
    assert count(outcome.kept.any(axis=1)).low > 0.4


def test_a_race_that_looks_twice_pays_for_it_in_its_quick_table() -> None:
    outcome = simulate_nulls(
        WORLDS[0],
        replace(default_design("race"), quick_seeds=5),
        num_sweeps=250,
        generator=np.random.default_rng(4),
    )
    explored, corrected = (
        count(flags.any(axis=1)) for flags in (outcome.explored, outcome.corrected)
    )
    assert corrected.count < explored.count
    assert corrected.against_most(0.05) == "kept"


def test_threshold_has_the_seeds_of_rounds_20_and_21() -> None:
    design = default_design("threshold")
    assert (design.quick_seeds, design.medium_seeds) == (1, 1)
    assert default_design("race").quick_seeds >= 3


def test_a_sweep_is_false_when_one_of_its_tasks_is() -> None:
    flags = np.array([False] * 3 + [True, False, False] + [True, True, True])
    assert of_sweeps(flags) == Rate(2, 3)


def test_the_table_has_every_world_and_design() -> None:
    table = study_false_positives(num_sweeps=5, generator=np.random.default_rng(2))
    cases = {(row["world"], row["rule"]) for row in table.rows}
    assert cases == {(world.name, name) for world in WORLDS for name in designs()}


@pytest.mark.slow
@pytest.mark.parametrize("design", designs().values(), ids=list(designs()))
@pytest.mark.parametrize("world", AA_WORLDS, ids=lambda world: world.name)
def test_two_thousand_sweeps_keep_the_nominal_rate(world: World, design: Design) -> None:
    outcome = simulate_nulls(world, design, num_sweeps=2000, generator=np.random.default_rng(3))
    of_families = outcome.claims.any(axis=1)
    # the whole interval below the nominal rate, of families and of sweeps of three tasks
    assert count(of_families).high < 0.05
    assert of_sweeps(of_families).against_most(0.05) == "kept"
