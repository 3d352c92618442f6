"""Every kind of flaw is found in small files that have it, and not in files that do not."""

import math
from pathlib import Path

import pytest

from fseed.results.legacy.audit import FLAW_KINDS, Audit, audit_folder
from fseed.results.legacy.model import Flaw
from tests.results.legacy.builders import (
    SETTINGS,
    record,
    write_manifest,
    write_records,
    write_study,
)


def flaws_of(audit: Audit, code: str) -> list[Flaw]:
    return [flaw for flaw in audit.flaws if flaw.code == code]


def only(folder: Path, code: str) -> Flaw:
    (flaw,) = flaws_of(audit_folder(folder), code)
    return flaw


def test_a_sound_study_has_only_the_flaws_of_its_protocol(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    audit = audit_folder(folder)
    assert audit.problems == []
    assert set(audit.counts) == {"best_of_many", "wall_clock_budget"}
    steps = {**SETTINGS, "max_steps": 300}
    steps.pop("time_budget_sec")
    steps.pop("val_batches")
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03, settings=steps)
    assert audit_folder(folder).flaws == []


def test_the_size_of_the_selection_is_told(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    assert "each on 32 of 200 validation examples" in only(folder, "best_of_many").text
    assert "after 240 s (no step limit)" in only(folder, "wall_clock_budget").text


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"mean": 0.0102}, "mean d_acc is 0.0102, its seed lines give 0.0100"),
        ({"std": 0.0312}, "std d_acc is 0.0312, its seed lines give 0.0300"),
        ({"signs": "2/0/0"}, "signs are (2, 0, 0), its seed lines give (1, 0, 1)"),
    ],
)
def test_a_head_that_contradicts_its_seeds(folder: Path, told: dict[str, float], text: str) -> None:
    right = {"mean": 0.01, "std": 0.03}
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), **(right | told))
    assert only(folder, "disagreement").text == text


def test_a_seed_line_that_contradicts_itself(folder: Path) -> None:
    path = write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    path.write_text(path.read_text().replace("fs=0.3400", "fs=0.3500"))
    flaw = only(folder, "disagreement")
    assert (flaw.place, flaw.text) == (f"{path}:4", "seed 0: d_acc +0.0400 is not the difference")


def test_missing_numbers_of_a_study(folder: Path) -> None:
    path = write_study(folder, "arc_a", (0.3, 0.34), (0.4, 0.38), mean=0.01, std=0.03, signs=None)
    assert only(folder, "missing_numbers").text == "tells no sign counts"
    path.write_text(path.read_text().replace("pairs=2", "pairs=3"))
    assert only(folder, "missing_numbers").text == "says 3 pairs and lists 2"
    path.write_text("")
    assert only(folder, "missing_numbers").text == "the file is empty"
    path.write_text("filter: {'a': 1}\n")
    assert only(folder, "missing_numbers").text == "the summary holds no result"


def test_one_seed(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), mean=0.04, std=0.0, signs="1/0/0")
    assert "variance is not measured" in only(folder, "single_seed").text


def test_sides_that_tie(folder: Path) -> None:
    tie, other = (0.5, 0.5), (0.3, 0.4)
    write_study(folder, "arc_a", tie, other, mean=0.05, std=0.05, signs="1/1/0")
    assert "seeds 0 of 2, although the loss differs" in only(folder, "equal_digits").text
    write_study(folder, "arc_a", tie, (0.4, 0.4), mean=0, std=0, signs="0/2/0")
    assert "seeds 0,1 of 2, although the loss" in only(folder, "degenerate_constant").text
    write_study(folder, "arc_a", tie, (0.4, 0.4), mean=0, std=0, signs="0/2/0", loss=0.0)
    assert "and the loss too" in only(folder, "no_op").text


def test_a_score_that_never_changes(folder: Path) -> None:
    write_study(folder, "arc_a", (0.5, 0.5), (0.5, 0.5), mean=0, std=0, signs="0/2/0")
    texts = [flaw.text for flaw in flaws_of(audit_folder(folder), "degenerate_constant")]
    assert "best.token_accuracy is 0.5 in all 4 runs" in texts


def test_studies_with_the_same_scores(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    write_study(folder, "arc_b", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    assert "as in arc_a L=512, at every seed" in only(folder, "repeated_runs").text
    write_study(folder, "arc_b", (0.30, 0.34), (0.40, 0.39), mean=0.015, std=0.025)
    assert "repeated_runs" not in audit_folder(folder).counts


def test_medium_against_quick(folder: Path) -> None:
    base, quick = record(), record("head_l8", acc=0.12, loss=4.8)
    medium = record("head_l8", "med", acc=0.2, loss=4.8)
    path = write_records(folder, "round90", base, quick, medium)
    audit = audit_folder(folder)
    (repeat,) = flaws_of(audit, "medium_repeats_quick")
    assert repeat.place == f"{path}:3"
    assert repeat.text == "medium repeats quick to the last digit: best.loss 4.8 (quick: line 2)"
    assert len(flaws_of(audit, "medium_reuses_seed")) == 1
    (budget,) = flaws_of(audit, "unequal_budgets")
    assert "1 medium arm compared with the quick baseline (line 1)" in budget.text


def test_a_medium_stage_as_it_should_be(folder: Path) -> None:
    fresh = {"seed": 5}
    records = [record(), record("head_l8", acc=0.12, loss=4.8)]
    records += [record(stage="med", **fresh, loss=3.1), record("head_l8", "med", **fresh, loss=3.0)]
    write_records(folder, "round90", *records)
    found = audit_folder(folder).counts
    assert not {"medium_repeats_quick", "medium_reuses_seed", "unequal_budgets"} & set(found)


def test_one_digit_apart_is_no_repeat(folder: Path) -> None:
    loss = math.nextafter(4.8, 5.0)
    records = [record(), record("head_l8", loss=4.8), record("head_l8", "med", acc=0.2, loss=loss)]
    write_records(folder, "round90", *records)
    assert "medium_repeats_quick" not in audit_folder(folder).counts


def test_arms_that_share_their_accuracy(folder: Path) -> None:
    base = record(loss=5.0)
    write_records(folder, "round90", base, record("a", loss=5.1, acc=0.2))
    assert "equal_digits" not in audit_folder(folder).counts
    write_records(folder, "round90", base, record("a", loss=5.1))
    assert "2 runs (baseline, a)" in only(folder, "equal_digits").text
    write_records(folder, "round90", base, record("a", loss=5.1), record("b", loss=5.2))
    assert "3 runs (baseline, a, b)" in only(folder, "degenerate_constant").text
    write_records(folder, "round90", base, record("a", loss=5.0))
    assert only(folder, "no_op").text == "accuracy and loss equal those of baseline (line 1)"


def test_rounds_that_hold_the_same_run(folder: Path) -> None:
    write_records(folder, "round90", record(acc=0.111))
    later = write_records(folder, "round91", record(acc=0.111))
    flaw = only(folder, "repeated_runs")
    assert flaw.place == f"{later}:1"
    assert flaw.text.startswith("1 run as in round90, accuracy and loss to the last digit")
    write_records(folder, "round91", record(acc=0.222))
    assert "which evaluations were kept" in only(folder, "equal_digits").text


def test_failures_and_probes(folder: Path) -> None:
    probe = record("bsz", "probe", acc=None, loss=None)
    failed = record(status="fail", error="RuntimeError: Only built 3 of 9", acc=None, loss=None)
    path = write_records(folder, "round90", probe, failed)
    texts = [flaw.text for flaw in flaws_of(audit_folder(folder), "missing_numbers")]
    assert "failed, no score: RuntimeError: Only built 3 of 9" in texts
    flaw = only(folder, "probe_without_failure")
    assert (flaw.place, "with batch 2; line 2: RuntimeError" in flaw.text) == (f"{path}:1", True)


@pytest.mark.parametrize("acc", [None, math.nan])
def test_a_run_recorded_as_fine_without_a_score(folder: Path, acc: float | None) -> None:
    write_records(folder, "round90", record(acc=acc))
    texts = [flaw.text for flaw in flaws_of(audit_folder(folder), "missing_numbers")]
    assert "recorded as ok without a finite score" in texts


def test_the_manifest_is_checked(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    write_study(folder, "arc_b", (0.20, 0.24), (0.40, 0.38), mean=0.01, std=0.03)
    write_manifest(folder, arc_a=0.01)
    assert only(folder, "left_out").subject == "_summary_arc_b"
    write_manifest(folder, arc_a=0.02, arc_b=None)
    assert only(folder, "disagreement").text == "mean_d_acc 0.0200 is not in _summary_arc_a.txt"
    assert only(folder, "missing_numbers").text == "no mean_d_acc"


ROUND = """\
====
Round90 search summary (single seed)
====
[mbpp_low]
  baseline quick: acc=10.00% loss=5.0000 bsz=2
    head_l8                  d_acc=+2.00pp acc=12.00% [KEEP]
  med confirmed:
    head_l8                  d_acc=+0.1000 acc=0.2000 loss=4.5000
----
"""


def write_round(folder: Path, text: str = ROUND) -> Path:
    arm = record("head_l8", acc=0.12, loss=4.9)
    medium = record("head_l8", "med", acc=0.2, loss=4.5)
    write_records(folder, "round90", record(), arm, medium)
    path = folder / "_summary_round90_s0.txt"
    path.write_text(text)
    return path


def test_a_round_summary_that_agrees_with_its_records(folder: Path) -> None:
    write_round(folder)
    audit = audit_folder(folder)
    assert (len(audit.claims), audit.problems) == (3, [])
    assert not {"disagreement", "missing_numbers"} & set(audit.counts)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("acc=12.00%", "acc=12.02%", "accuracy 0.1202 is in no record (0.1200)"),
        ("d_acc=+2.00pp", "d_acc=+3.00pp", "difference 0.0300 is in no record (0.0200)"),
        ("loss=4.5000", "loss=4.6000", "loss 4.6000 is in no record (4.5000)"),
    ],
)
def test_a_wrong_digit_of_a_round_summary(folder: Path, old: str, new: str, text: str) -> None:
    write_round(folder, ROUND.replace(old, new))
    assert only(folder, "disagreement").text == text


def test_a_round_summary_without_records_and_the_other_way(folder: Path) -> None:
    path = write_round(folder)
    (folder / "_round90_records.jsonl").unlink()
    texts = {flaw.text for flaw in flaws_of(audit_folder(folder), "missing_numbers")}
    assert texts == {"no record holds this run"}
    write_round(folder)
    path.unlink()
    assert only(folder, "missing_numbers").text == "the round has records and no summary"


def test_every_kind_has_a_sentence() -> None:
    assert all(FLAW_KINDS.values())
