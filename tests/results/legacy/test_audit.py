"""What is read, and that nothing is dropped: forms, damage, the folder of the earlier work."""

import json
import os
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.results.legacy import audit as audit_module
from fseed.results.legacy.audit import audit_folder
from tests.results.legacy.builders import record, seed_line, write_records, write_study

LIST = """\
====
seed=0 q_first=False train_data_seed=None n_val=512 lr=3e-05 time_budget=240
  no_fs      best_loss=16.0@950 best_acc=0.09@1150 last_loss=16.3 last_acc=0.07 dir=runs/1/no_fs
  prompt_fs  best_loss=15.7@950 best_acc=0.10@1600 last_loss=16.4 last_acc=0.08 dir=runs/2/fs
  DELTA(prompt_fs - no_fs): best_loss -0.3000 | best_acc +0.0100

Total runs parsed: 2
"""


def test_a_folder_is_needed(folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        audit_folder(folder / "nowhere")
    (folder / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        audit_folder(folder / "file")


def test_an_empty_folder_is_no_error(folder: Path) -> None:
    audit = audit_folder(folder)
    assert (audit.num_files, audit.flaws, audit.problems) == (0, [], [])


def test_the_numbers_of_a_study(folder: Path) -> None:
    write_study(folder, "arc_a", (0.30, 0.34), (0.40, 0.38), mean=0.01, std=0.03)
    audit = audit_folder(folder)
    (study,) = audit.studies
    assert (study.name, study.length_tokens, study.signs) == ("arc_a", 512, (1, 0, 1))
    assert study.means == {"d_acc": 0.01, "d_loss": 0.01}
    told = [(run.arm, run.seed, run.accuracy, run.batch_size) for run in audit.runs]
    assert told[:2] == [("no_fs", 0, 0.30, 4), ("scalar_l6", 0, 0.34, 4)]


def test_sequence_scores_are_kept(folder: Path) -> None:
    path = write_study(folder, "protein_ss_a", (0.30, 0.34), mean=0.04, std=0.0, signs="1/0/0")
    text = path.read_text().replace(" (no=0.3000 fs=0.3400)", " d_seq=+0.1000 (tok no=0.3000 ")
    path.write_text(text.replace("(tok no=0.3000 ", "(tok no=0.3000 fs=0.3400; seq no=0.5 fs=0.6)"))
    audit = audit_folder(folder)
    assert audit.problems == []
    assert [run.scores["best.sequence_accuracy"] for run in audit.runs] == [0.5, 0.6]


def test_a_list_of_runs(folder: Path) -> None:
    path = folder / "_summary_squad_x.txt"
    path.write_text(LIST)
    audit = audit_folder(folder)
    assert audit.problems == []
    assert [run.scores["last.token_accuracy"] for run in audit.runs] == [0.07, 0.08]
    assert audit.runs[0].settings["n_val"] == 512
    path.write_text(LIST.replace("parsed: 2", "parsed: 5"))
    texts = [flaw.text for flaw in audit_folder(folder).flaws if flaw.code == "missing_numbers"]
    assert texts == ["says 5 runs were parsed and lists 2"]
    (folder / "_summary_squad_y.txt").write_text(LIST)
    (flaw,) = (flaw for flaw in audit_folder(folder).flaws if flaw.code == "repeated_runs")
    assert flaw.text == f"2 runs stand in {path} too"


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("_summary_arc_a.txt", "filter: {broken", "the filter line is no mapping"),
        ("_summary_arc_a.txt", "filter: {'a': 1}\nsome words", "not understood: some words"),
        ("_summary_squad_a.txt", f"{LIST}odd line", "not understood: odd line"),
        ("_summary_round9.txt", "baseline quick: acc=1.0%\nodd line", "not understood: odd line"),
        ("_round9_records.jsonl", '{"torn": ', "not valid JSON"),
        ("_round9_records.jsonl", "[1]", "no record of a run: [1]"),
        ("exp_manifest.json", '{"torn": ', "not valid JSON"),
        ("exp_manifest.json", '{"experiments": [3]}', "experiment 1 names no summary"),
    ],
)
def test_what_is_not_understood_is_named_with_its_path(
    folder: Path, name: str, line: str, told: str
) -> None:
    path = folder / name
    path.write_text(f"{line}\n")
    (problem,) = audit_folder(folder).problems
    assert problem.startswith(str(path))
    assert told in problem


def test_files_of_other_forms_are_foreign(folder: Path) -> None:
    names = ["notes.txt", "data.bin", "other.json"]
    (folder / "notes.txt").write_text("Dear reader,\nnothing here.\n")
    (folder / "data.bin").write_bytes(bytes(range(256)))
    (folder / "other.json").write_text("{}")
    audit = audit_folder(folder)
    assert {path.name for path in audit.foreign} == set(names)
    assert audit.problems == []


def test_files_that_cannot_be_read_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "_summary_a.txt").write_bytes(b"filter: {}\xff\xfe")
    (folder / "_summary_b.txt").symlink_to(folder / "nowhere")
    (folder / "_summary_c.txt").write_text("filter: {}\n" * 10)
    os.mkfifo(folder / "_summary_d.txt")
    monkeypatch.setattr(audit_module, "MAX_BYTES", 50)
    problems = audit_folder(folder).problems
    assert [problem.partition(": ")[0][-5:] for problem in problems] == [
        *("a.txt", "b.txt", "c.txt", "d.txt")
    ]
    assert "110 bytes; files of results have at most 50" in problems[2]


def test_a_loop_of_links_ends(folder: Path) -> None:
    write_records(folder, "round90", record())
    (folder / "loop").symlink_to(folder)
    assert len(audit_folder(folder).runs) == 1


@pytest.mark.parametrize("value", [None, [], {}, "x", True, 1e400, -3])
@pytest.mark.parametrize("key", ["task", "seed", "stage", "config", "status", "bsz", "run_dir"])
def test_no_content_of_a_record_raises(folder: Path, key: str, value: object) -> None:
    medium = record("a", "med", acc=0.3)
    write_records(folder, "round90", record(), record("a", acc=0.2), medium | {key: value})
    assert len(audit_folder(folder).runs) == 3


@pytest.mark.parametrize("line", ["pairs=2 mean d_acc=nan std=nan", seed_line(0, base=1, arm=2)])
def test_odd_numbers_never_raise(folder: Path, line: str) -> None:
    (folder / "_summary_arc_a.txt").write_text(f"filter: {{'bsz': 'x'}}\n{line}\n")
    audit = audit_folder(folder)
    assert audit.flaws or audit.problems


def test_the_folder_of_the_earlier_work(shared_data: Path) -> None:
    """Every file is read, every published figure is reproduced, every known flaw is found."""
    reference = shared_data.parent / "design" / "reference_results.csv"
    audit = audit_folder(
        shared_data / "legacy_results", reference=reference if reference.is_file() else None
    )
    assert (audit.num_files, len(audit.studies), audit.problems, audit.foreign) == (65, 44, [], [])
    manifest = shared_data / "legacy_results" / "paper" / "exp_manifest.json"
    assert len(audit.entries) == len(json.loads(manifest.read_text())["experiments"])
    assert "disagreement" not in audit.counts
    known = {"medium_repeats_quick", "degenerate_constant", "equal_digits", "missing_numbers"}
    known |= {"unequal_budgets", "best_of_many", "no_op", "medium_reuses_seed", "wall_clock_budget"}
    assert known <= set(audit.counts)
    if reference.is_file():
        means = [row for row in audit.published if row.is_multi_seed]
        assert len(means) == 44
        assert [row.line for row in audit.published if row.problem is not None] == []
        assert audit.is_clean
