import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fseed.results import beside, bootstraps, statistics
from fseed.results.bootstraps import bootstrap_rows
from fseed.results.measurement import Measurement
from fseed.results.memo import Memo
from fseed.results.statistics import Interval


def row(seed: int, *, num_seeds: int = 4, num_examples: int = 30) -> Measurement:
    """Return a measured row whose scores are no whole numbers."""
    generator = np.random.default_rng(seed)
    items = generator.normal(0.1, 1.0, (num_seeds, num_examples))
    units = np.full(num_examples, 3.0)
    return Measurement(
        **{"metric": "f1", "split": "validation", "arm_value": 0.5, "baseline_value": 0.4},
        **{"constant_value": None, "seeds": tuple(range(num_seeds)), "loss_differences": None},
        **{"interval": None, "interval_kind": None, "mcnemar_p": None, "is_bit_equal": False},
        differences=items.sum(axis=1) / units.sum(),
        item_differences=items,
        units=units,
    )


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of rows that were computed, call by call."""
    calls: list[int] = []
    original = bootstraps._bootstrap

    def counting(rows: Sequence[Measurement]) -> list[Interval]:
        calls.append(len(rows))
        return original(rows)

    monkeypatch.setattr(bootstraps, "_bootstrap", counting)
    return calls


def test_an_interval_does_not_depend_on_the_other_rows() -> None:
    rows = [row(seed) for seed in range(7)]
    together = bootstrap_rows(rows, memo=Memo())
    alone = [bootstrap_rows([one], memo=Memo())[0] for one in rows]
    # to the last bit, although a matrix product of another size adds in another order
    assert alone == together
    assert bootstrap_rows(rows[::-1], memo=Memo()) == together[::-1]
    assert len(set(map(repr, together))) == 7


def test_sums_are_exact_in_any_order_and_whole_numbers_stay() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(0, 1, (2, 5, 200)) * np.array([1.0, 1e-9]).reshape(2, 1, 1)
    rounded = statistics._on_grid(values)
    np.testing.assert_allclose(rounded, values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rounded[1], values[1], rtol=0, atol=1e-21)
    flat = rounded[0].ravel()
    # exact in doubles: all orders agree with the exact sum
    assert len({float(np.sum(generator.permutation(flat))) for _ in range(20)}) == 1
    assert float(flat.sum()) == math.fsum(flat)
    whole = generator.integers(-7, 8, (3, 5, 200)).astype(float)
    assert np.array_equal(statistics._on_grid(whole), whole)
    assert np.array_equal(statistics._on_grid(np.zeros((1, 3, 4))), np.zeros((1, 3, 4)))


def test_halves_computed_in_two_processes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(seed) for seed in range(5)]
    plain = bootstrap_rows(rows, memo=Memo())
    monkeypatch.setattr(beside, "MIN_RUNS", 2)
    monkeypatch.setattr(beside, "num_cores", lambda: 2)
    assert bootstrap_rows(rows, memo=Memo()) == plain


def test_a_row_is_computed_once_in_its_life(tmp_path: Path, count: list[int]) -> None:
    rows = [row(seed) for seed in range(4)]
    memo = Memo(tmp_path / "memo.json")
    first = bootstrap_rows([*rows, rows[0]], memo=memo)
    memo.save()
    assert (sum(count), first[0]) == (4, first[4])
    count.clear()
    again = Memo(tmp_path / "memo.json")
    found = bootstrap_rows([*rows[::-1], row(9)], memo=again)
    assert found[:4] == first[3::-1]
    assert sum(count) == 1


@pytest.mark.parametrize("name", ["item_differences", "units"])
def test_another_number_is_another_row(count: list[int], name: str) -> None:
    memo, one = Memo(), row(0)
    bootstrap_rows([one], memo=memo)
    values = np.array(getattr(one, name))
    values.flat[-1] += 1e-9
    bootstrap_rows([replace(one, **{name: values})], memo=memo)
    assert sum(count) == 2


def test_other_code_is_another_row(count: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Memo()
    bootstrap_rows([row(0)], memo=memo)
    monkeypatch.setattr(bootstraps, "_versions", lambda: "another")
    bootstrap_rows([row(0)], memo=memo)
    assert sum(count) == 2


def test_rows_below_three_seeds_have_none() -> None:
    two, none = row(0, num_seeds=2), replace(row(0), units=np.zeros(30))
    assert bootstrap_rows([None, two, none], memo=Memo()) == [None, None, None]
