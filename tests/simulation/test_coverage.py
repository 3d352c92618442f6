import numpy as np
import pytest

from fseed.simulation import coverage
from fseed.simulation.coverage import (
    study_equivalence,
    study_item_intervals,
    study_seed_intervals,
)
from fseed.simulation.scores import WORLDS
from fseed.simulation.tables import Table


def cell(table: Table, name: str, **labels: object) -> float:
    wanted = {key.replace("_", " "): value for key, value in labels.items()}
    (row,) = (row for row in table.rows if wanted.items() <= row.items())
    value = row[name]
    assert isinstance(value, int | float)
    return float(value)


def test_the_t_interval_covers_in_every_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "SEEDS", (3, 5))
    table = study_seed_intervals(num_repeats=1000, generator=np.random.default_rng(0))
    assert len(table.rows) == 2 * len(WORLDS)
    for row in table.rows:
        assert isinstance(row["covered %"], float)
        assert 92 <= row["covered %"] <= 99.5, row
    assert 93.5 <= cell(table, "covered %", world="normal", seeds=3) <= 96.5


def test_every_interval_covers_what_it_speaks_of() -> None:
    table = study_item_intervals(num_repeats=400, generator=np.random.default_rng(1))
    assert not [row for row in table.rows if row["verdict"] == "too low" and row["seeds"] != 1]
    known = {"example effect pp": 15.0}
    examples = cell(table, "covered %", interval="t", truth="examples", seeds=10, **known)
    population = cell(table, "covered %", interval="t", truth="population", seeds=10, **known)
    # more seeds on the same examples say nothing about other examples
    assert 92 <= examples <= 98
    assert population < examples - 5
    crossed = cell(
        table, "covered %", interval="crossed bootstrap", truth="population", seeds=10, **known
    )
    assert crossed > 95


def test_equivalence_is_rarely_called_at_the_margin_and_often_at_zero() -> None:
    table = study_equivalence(num_repeats=300, generator=np.random.default_rng(2))
    # skewed differences are beyond a t test, paper/simulations tells how far
    assert not [line for line in table.failures if "skewed arms" not in line]
    at_zero = cell(table, "equivalent %", world="normal", seeds=10, true_pp=0.0)
    at_margin = cell(table, "equivalent %", world="normal", seeds=10, true_pp=1.0)
    assert at_margin < 10 < 60 < at_zero
