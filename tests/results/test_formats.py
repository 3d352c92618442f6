import json
from pathlib import Path

import pytest
from scipy import stats

from fseed.results import formats
from fseed.results.collection import collect_runs
from fseed.results.measurement import OVER_ITEMS, OVER_SEEDS
from tests.results.builders import RunSpec, finish_run


@pytest.mark.parametrize(
    ("seeds", "folded"),
    [
        ("0", "0"),
        ("0,1,2", "0-2"),
        ("7,0,1,2,4,5", "0-2,4-5,7"),
        ("0,2,4", "0,2,4"),
        ("-1,0", "-1,0"),
        ("None", "None"),
    ],
)
def test_seed_ranges(seeds: str, folded: str) -> None:
    assert formats.seed_ranges(seeds) == folded


def test_numbers_carry_their_unit_and_sign() -> None:
    assert formats.percent(0.12345) == "12.35"
    assert formats.points(0.0123) == "+1.23"
    assert formats.points(-0.0123) == "-1.23"
    assert formats.signed(-0.00123) == "-0.0012"
    assert (formats.points(-1e-6), formats.signed(-1e-6)) == ("+0.00", "+0.0000")
    assert formats.plain(1_234_567) == "1,234,567"
    assert formats.plain(12.345, digits=1) == "12.3"
    assert formats.plain("x") == "x"


def test_missing_stays_missing() -> None:
    shown = [formats.percent(None), formats.points(None), formats.signed(None)]
    shown += [formats.plain(None), formats.interval(None, 0.1, kind=OVER_SEEDS)]
    assert shown == ["-"] * 5


def test_an_interval_over_examples_is_marked() -> None:
    assert formats.interval(-0.01, 0.02, kind=OVER_SEEDS) == "[-1.00, +2.00]"
    assert formats.interval(-0.01, 0.02, kind=OVER_ITEMS) == "[-1.00, +2.00] *"


def test_p_values_have_two_digits() -> None:
    assert formats.p_value(0.01234) == "0.012"
    assert formats.p_value(4.5e-6) == "4.5e-06"
    assert formats.p_value(None) == "-"


def test_the_test_of_a_row_has_cells_of_its_own(tmp_path: Path) -> None:
    for seed, right in enumerate([20, 22, 24]):
        base = RunSpec(seed=seed, correct=[20] * 20, units=[40] * 20, loss=1.0 + seed)
        finish_run(tmp_path, base)
        correct = [20] * 19 + [20 + right]
        finish_run(tmp_path, base.with_(arm="scalar_l10", correct=correct, loss=0.5 + seed))
    (row,) = collect_runs([tmp_path]).comparisons
    cells = formats.evidence_cells(row)
    assert cells["family"] == "bh over 1"
    expected = f"{stats.ttest_1samp([20, 22, 24], 0).pvalue:.2g}"
    assert cells["p"] == cells["p adjusted"] == expected
    assert (cells["margin pp"], cells["more seeds"]) == ("1.00", "0")
    assert "  scalar_l10" not in formats.paired_cells(row)["arm"]


@pytest.mark.parametrize("value", ["x", [], {"a": 1}, True, float("nan"), 10**400])
def test_baselines_of_a_wrong_type_are_missing(tmp_path: Path, value: object) -> None:
    path = finish_run(tmp_path, RunSpec())
    result = json.loads((path / "result.json").read_text())
    for name in ("constant_baseline", "copy_baseline"):
        result[name] = {"token_accuracy": value}
    (path / "result.json").write_text(json.dumps(result))
    finish_run(tmp_path, RunSpec(arm="scalar_l10", loss=0.5))
    found = collect_runs([tmp_path])
    cells = [formats.run_cells(run) for run in found.runs if run.is_baseline]
    assert [(told["constant %"], told["copy %"]) for told in cells] == [("-", "-")]
    assert len(found.comparisons) == 1
