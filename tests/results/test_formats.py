import pytest

from fseed.results import formats
from fseed.results.measurement import OVER_ITEMS, OVER_SEEDS


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
