from dataclasses import replace

import numpy as np
import pytest

from fseed.simulation import power
from fseed.simulation.false_positives import default_design
from fseed.simulation.pipeline import Design, search
from fseed.simulation.power import (
    CLAIM,
    Contestant,
    compete,
    contestants,
    fit_design,
    is_beaten,
    name_the_beaten,
)
from fseed.simulation.scores import WORLDS
from fseed.simulation.tables import Cell

NORMAL = WORLDS[0]
EFFECTS = np.array([0.04, 0.0, 0.0, 0.0])
RACE = Contestant("race", replace(default_design("race"), quick_seeds=3, medium_seeds=3))
EARLIER = next(one for one in contestants() if one.is_claim)


@pytest.fixture(autouse=True)
def _small_pilots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_PILOT_FAMILIES", 80)


def test_a_race_finds_a_planted_arm_and_hardly_any_other() -> None:
    outcome = search(
        NORMAL,
        EFFECTS,
        RACE.with_seeds(12),
        num_families=120,
        generator=np.random.default_rng(0),
    )
    assert outcome.helps[:, 0].mean() > 0.85
    assert outcome.claims[:, 1:].any(axis=1).mean() < 0.05


def test_at_equal_cost_the_earlier_protocol_claims_false_arms_and_the_race_does_not() -> None:
    race, earlier = (
        compete(
            contestant,
            NORMAL,
            EFFECTS,
            budget=60,
            num_families=120,
            generator=np.random.default_rng(1),
        )
        for contestant in (RACE, EARLIER)
    )
    assert number(earlier, "runs") >= number(race, "runs") * 0.9
    assert number(race, "false %") < 5 < 20 < number(earlier, "false %")


def number(cells: dict[str, Cell] | None, name: str) -> float:
    assert cells is not None
    value = cells[name]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("contestant", contestants(), ids=lambda one: one.name)
def test_no_rival_has_fewer_runs_than_the_budget(contestant: Contestant) -> None:
    budget = 70.0
    design = fit_design(
        contestant, NORMAL, EFFECTS, budget=budget, generator=np.random.default_rng(2)
    )
    assert design is not None
    outcome = search(NORMAL, EFFECTS, design, num_families=80, generator=np.random.default_rng(3))
    assert 0.9 * budget <= outcome.num_runs.mean() <= 1.3 * budget


def test_a_search_that_is_too_dear_takes_no_part() -> None:
    dear = Contestant("race", Design(RACE.design.rules, 15, 15, 5))
    generator = np.random.default_rng(4)
    assert fit_design(dear, NORMAL, EFFECTS, budget=40.0, generator=generator) is None
    assert compete(dear, NORMAL, EFFECTS, budget=40.0, num_families=5, generator=generator) is None


def row(name: str, interval: str) -> dict[str, Cell]:
    return {"search": name, "seeds": "3 / 3 / 5", "99 % interval": interval}


def test_a_search_is_beaten_where_the_intervals_part() -> None:
    low, near, high = (
        row(name, interval)
        for name, interval in (
            ("race", "10.00 to 20.00"),
            ("halving", "19.00 to 60.00"),
            ("fixed", "50.00 to 70.00"),
        )
    )
    claim = row(CLAIM, "90.00 to 99.00")
    told = [one["verdict"] for one in name_the_beaten([low, near, high, claim])]
    assert told == ["beaten by fixed 3 / 3 / 5", "", "", "no error control"]
    assert [one["verdict"] for one in name_the_beaten([near, high, low])] == ["kept", "", ""]
    assert is_beaten(low, high)
    assert not is_beaten(near, high)


def test_the_table_has_a_row_per_case_and_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "CASES", ((NORMAL, 0.05, 1),))
    table = power.study_power(num_families=10, generator=np.random.default_rng(5))
    assert len(table.rows) == len(contestants())
    assert {one["gain pp"] for one in table.rows} == {5.0}
