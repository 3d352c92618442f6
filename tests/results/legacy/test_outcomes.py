from pathlib import Path
from typing import Any

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.legacy.audit import audit_folder
from fseed.results.legacy.frame import legacy_rows
from fseed.results.legacy.outcomes import outcome_rows
from fseed.results.legacy.render import render_audit_lines, render_audit_markdown
from tests.results.builders import RunSpec, finish_run
from tests.results.legacy.builders import (
    SETTINGS,
    record,
    write_manifest,
    write_records,
    write_reference,
    write_study,
)


@pytest.fixture
def results(folder: Path) -> Path:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    records = [record(seed=seed, acc=0.1 + seed / 100, loss=5.0 + seed) for seed in range(2)]
    records += [record("head_l8", seed=seed, acc=0.12 + seed / 50) for seed in range(2)]
    records.append(record("head_l8", "med", seed=1, acc=0.31, loss=4.0))
    write_records(folder, "round90", *records)
    return folder


@pytest.fixture
def ours(tmp_path: Path) -> Collection:
    changes = {"task.name": "arc"}
    for seed in range(3):
        base = RunSpec(seed=seed, changes=changes, loss=1.0 + seed)
        finish_run(tmp_path / "runs", base)
        finish_run(
            tmp_path / "runs", base.with_(arm="scalar_l6", correct=(2, 0, 2, 1), loss=3.0 + seed)
        )
    return collect_runs([tmp_path / "runs"])


def rows_of(results: Path, **told: Any) -> dict[str, dict[str, Any]]:
    return {row["study"]: row for row in outcome_rows(audit_folder(results), **told)}


def test_matched_is_the_same_arm_and_seeds_at_the_budget_of_the_baseline(results: Path) -> None:
    rows = rows_of(results)
    medium, quick = rows["round90 medium batch 2"], rows["round90 quick batch 2"]
    assert medium["published"] == pytest.approx(0.20)
    assert medium["matched"] == pytest.approx(0.03)
    assert (medium["budgets"], medium["seeds"]) == ("medium against quick", "1")
    assert quick["published"] == quick["matched"] == pytest.approx(0.025)
    assert rows["arc_a L=512"]["matched"] == 0.01


def test_no_run_at_the_same_budget_is_no_number(results: Path) -> None:
    write_records(results, "round90", record(), record("head_l8", "med", acc=0.3))
    row = rows_of(results)["round90 medium batch 2"]
    assert (row["published"], row["matched"]) == (pytest.approx(0.2), None)


def test_ours_is_empty_until_there_are_runs_of_that_task_order_and_preset(
    results: Path, ours: Collection
) -> None:
    assert rows_of(results)["arc_a L=512"]["ours"] is None
    row = rows_of(results, ours=ours)["arc_a L=512"]
    assert row["ours"] == pytest.approx(1 / 8)
    assert (row["ours_stage"], row["ours_model"], row["ours_num_pairs"]) == ("plain", "nano", 3)
    assert rows_of(results, ours=ours)["round90 quick batch 2"]["ours"] is None
    other = {**SETTINGS, "q_first": True}
    write_study(results, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03, settings=other)
    assert rows_of(results, ours=ours)["arc_a L=512"]["ours"] is None


def test_the_frame_has_a_row_per_run_and_per_study(results: Path) -> None:
    rows = legacy_rows(audit_folder(results))
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("legacy_run"), kinds.count("legacy_study")) == (9, 1)
    first, study = rows[0], rows[-1]
    assert (first["task.name"], first["arm"], first["seed"]) == ("mbpp", "no_fs", 0)
    assert (first["best.token_accuracy"], first["sweep.stage"]) == (0.1, "quick")
    assert "last.token_accuracy" not in first
    assert (study["lstart"], study["budget.seconds"], study["budget.steps"]) == (6, 240, None)
    assert (study["difference.token_accuracy"], study["num_up"]) == (0.01, 1)


def test_markdown_holds_every_flaw_and_every_published_row(results: Path) -> None:
    row = {"study": "arc_a", "kind": "multi_seed", "length_tokens": 512, "mean_d_acc": 0.5}
    audit = audit_folder(results, reference=write_reference(results, row))
    text = render_audit_markdown(audit)
    assert all(flaw.text in text for flaw in audit.flaws)
    assert "mean_d_acc published 0.5000, from seeds 0.0100" in text
    assert "| arc | arc_a L=512 | scalar_l6 | 0-1 | 240 s each | +1.00 | +1.00 | - |" in text


def test_lines_tell_counts_trouble_and_the_table(results: Path, ours: Collection) -> None:
    (results / "notes.bin").touch()
    (results / "_round91_records.jsonl").write_text("{torn\n")
    write_manifest(results, arc_a=0.01)
    lines = render_audit_lines(audit_folder(results), ours=ours)
    assert lines[0] == f"earlier results in {results}"
    counts = "files: 5, runs: 9, studies over seeds: 1, lines of round summaries: 0"
    assert lines[1] == f"{counts}, manifest entries: 1"
    text = "\n".join(lines)
    assert "medium_reuses_seed: medium on the seed that selected the arm" in text
    assert f"  {results / 'notes.bin'}" in text
    assert f"  {results / '_round91_records.jsonl'}:1: not valid JSON" in text
    assert "+1.00    +1.00  +12.50" in text
