from pathlib import Path
from typing import Any

import pytest

from fseed.errors import UserError
from fseed.results.legacy.audit import audit_folder
from fseed.results.legacy.published import Published
from tests.results.legacy.builders import record, write_records, write_reference, write_study

MEAN = {
    **{"study": "arc_a", "kind": "multi_seed", "task": "arc", "length_tokens": 512, "pairs": 2},
    **{"stage": "matched", "mean_d_acc": 0.01, "std_d_acc": 0.03, "mean_d_loss": 0.01},
    **{"sign_pos": 1, "sign_zero": 0, "sign_neg": 1, "budget_matched": "yes"},
}
RUN = {
    **{"study": "round90", "kind": "single_seed_search", "task": "mbpp_low", "stage": "med"},
    **{"preset": "head_l8", "baseline_acc": 0.1, "arm_acc": 0.25, "mean_d_acc": 0.15},
    **{"mean_d_loss": -0.5, "budget_matched": "no: 380 steps against 140"},
}


@pytest.fixture
def results(folder: Path) -> Path:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    medium = record("head_l8", "med", acc=0.25, loss=4.5)
    write_records(folder, "round90", record(), record("head_l8", acc=0.12, loss=4.9), medium)
    return folder


def check(results: Path, row: dict[str, Any]) -> Published:
    audit = audit_folder(results, reference=write_reference(results, row))
    (published,) = audit.published
    assert audit.is_clean is (published.problem is None)
    assert ("not_reproduced" in audit.counts) is (published.problem is not None)
    return published


def test_a_mean_over_seeds_is_recomputed_from_its_seeds(results: Path) -> None:
    row = check(results, MEAN)
    assert row.problem is None
    assert row.again == pytest.approx(0.01)


def test_a_single_run_is_found_in_the_records(results: Path) -> None:
    row = check(results, RUN)
    assert row.problem is None
    assert (row.again, row.has_equal_budgets, row.is_multi_seed) == (0.15, False, False)
    assert check(results, RUN | {"stage": "quick", "preset": "baseline", "mean_d_acc": 0.0}).problem


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean_d_acc": 0.0102}, "mean_d_acc published 0.0102, from seeds 0.0100"),
        ({"std_d_acc": 0.0}, "std_d_acc published 0.0000, from seeds 0.0300"),
        ({"mean_d_loss": 0.02}, "mean_d_loss published 0.0200, from seeds 0.0100"),
        ({"sign_neg": 0}, "sign_neg published 0, from seeds 1"),
        ({"pairs": 3}, "pairs published 3, from seeds 2"),
        ({"length_tokens": 1024}, "0 studies of this name and length"),
        ({"study": "arc_b"}, "0 studies of this name and length"),
    ],
)
def test_any_other_mean_is_not_reproduced(results: Path, change: dict[str, Any], told: str) -> None:
    assert told in str(check(results, MEAN | change).problem)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arm_acc": 0.2500001}, "arm_acc published 0.2500001, in the records 0.25"),
        ({"baseline_acc": 0.11}, "baseline_acc published 0.11, in the records 0.1"),
        ({"mean_d_acc": 0.02}, "mean_d_acc published 0.02, in the records 0.15"),
        ({"mean_d_acc": ""}, "mean_d_acc published None, in the records 0.15"),
        ({"preset": "head_l9"}, "0 records of this run are here"),
    ],
)
def test_any_other_run_is_not_reproduced(results: Path, change: dict[str, Any], told: str) -> None:
    assert told in str(check(results, RUN | change).problem)


def test_unequal_budgets_that_the_table_tells(results: Path) -> None:
    reference = write_reference(results, RUN)
    flaws = audit_folder(results, reference=reference).flaws
    texts = [flaw.text for flaw in flaws if flaw.place == f"{reference}:2"]
    assert texts == ["published with unequal budgets: 380 steps against 140"]


def test_a_table_of_another_form_is_a_user_error(results: Path) -> None:
    path = results.parent / "other.csv"
    with pytest.raises(UserError, match="No such file"):
        audit_folder(results, reference=path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="lacks the columns study, kind"):
        audit_folder(results, reference=path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="give a CSV table"):
        audit_folder(results, reference=path)
