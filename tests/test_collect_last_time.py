"""Told again from the last time: the same bytes, and never once anything has changed."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fseed.collect import main
from fseed.results import collection
from fseed.results.index import CACHE_NAME
from fseed.results.last_time import LAST_TIME_NAME, LastTime
from tests.results.builders import RunSpec, finish_run, write_sweep
from tests.results.kept_runs import settle
from tests.results.staged import write_staged_sweep


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_sweep(folder, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    settle(folder)
    return folder


@pytest.fixture
def collect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, bool]]:
    """Return a function that gives what is printed, and whether tables were computed for it."""
    computed: list[Any] = []
    collect_found = collection.collect_found

    def counting(*arguments: Any, **options: Any) -> Any:
        computed.append(arguments)
        return collect_found(*arguments, **options)

    monkeypatch.setattr(collection, "collect_found", counting)

    def run(*arguments: object) -> tuple[str, bool]:
        computed.clear()
        main([*map(str, arguments)])
        return capsys.readouterr().out, bool(computed)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_is_computed_while_nothing_has_changed(
    root: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    first, was_computed = collect(root)
    files = contents(root / "tables")
    assert was_computed
    assert collect(root) == (first, False)
    assert contents(root / "tables") == files
    told, was_computed = collect(root, "--format", "none")
    assert (told, was_computed) == (first.partition("\nwritten to")[0], False)
    assert collect(root, "--no-cache") == (first, True)


def test_a_width_a_list_a_margin_and_a_folder_are_questions_of_their_own(
    root: Path, tmp_path: Path, collect: Callable[..., tuple[str, bool]], monkeypatch: Any
) -> None:
    first, _ = collect(root)
    for arguments in (["--runs"], ["--out", tmp_path / "other"], ["--margin", "20"]):
        told, was_computed = collect(root, *arguments)
        assert was_computed
        assert told == collect(root, *arguments, "--no-cache")[0]
    collect(root)
    monkeypatch.setenv("COLUMNS", "60")
    told, was_computed = collect(root)
    assert was_computed
    assert told != first
    assert collect(root) == (told, False)


@pytest.mark.parametrize("name", ["tables.md", "runs.parquet", "report.html"])
def test_written_files_that_were_edited_or_deleted_are_written_again(
    root: Path, collect: Callable[..., tuple[str, bool]], name: str
) -> None:
    first, _ = collect(root)
    file = root / "tables" / name
    whole = file.read_bytes()
    told = file.stat()
    file.write_bytes(whole[:-1] + b"?")
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert collect(root) == (first, True)
    assert file.read_bytes() == whole
    file.unlink()
    assert collect(root) == (first, True)
    assert file.read_bytes() == whole


def test_a_table_without_rows_that_somebody_left_goes(
    root: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    collect(root)
    stale = root / "tables" / "stages.csv"
    stale.write_text("stale")
    assert collect(root)[1]
    assert not stale.exists()
    stale.symlink_to(root / "tables" / "runs.csv")
    assert collect(root)[1]
    assert not stale.is_symlink()


def test_an_edit_of_a_run_with_its_time_put_back_is_seen(
    root: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    first, _ = collect(root)
    file = next(root.rglob("result.json"))
    told = file.stat()
    file.write_text(file.read_text().replace('"finished"', '"finishes"'))
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    again, was_computed = collect(root)
    assert was_computed
    assert again != first


def test_a_new_run_and_a_foreign_file_are_seen(
    root: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    collect(root)
    finish_run(root, RunSpec(arm="raw_l10"))
    settle(root)
    assert collect(root)[1]
    (root / "notes.txt").touch()
    assert collect(root)[1]
    assert not collect(root)[1]


def test_decisions_and_plans_of_a_staged_sweep_are_seen(
    tmp_path: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    folder = write_staged_sweep(tmp_path / "runs", tasks=("hotpot",))
    for name in ("decisions.jsonl", "plan.json"):
        settle(tmp_path / "runs")
        collect(tmp_path / "runs")
        assert not collect(tmp_path / "runs")[1]
        (folder / name).unlink()
        told, was_computed = collect(tmp_path / "runs")
        assert was_computed
        assert told == collect(tmp_path / "runs", "--no-cache")[0]


def test_runs_that_just_changed_are_not_relied_on(
    root: Path, collect: Callable[..., tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_run(root, RunSpec(arm="raw_l10"))
    monkeypatch.setattr("fseed.results.signatures.SETTLED_SECONDS", 1000.0)
    assert collect(root)[1]
    assert not (root / CACHE_NAME).with_name(LAST_TIME_NAME).exists()


def test_unreadable_runs_are_tried_each_time(
    root: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    next(root.rglob("result.json")).write_text("{")
    settle(root)
    assert collect(root) == collect(root)
    assert collect(root)[1]


def test_what_is_kept_may_be_damaged(root: Path, collect: Callable[..., tuple[str, bool]]) -> None:
    first, _ = collect(root)
    kept = (root / CACHE_NAME).with_name(LAST_TIME_NAME)
    for damage in (b"", b"{", kept.read_bytes().replace(b"scalar_l10", b"scalar_l11")):
        kept.write_bytes(damage)
        assert collect(root) == (first, True)
        assert collect(root) == (first, False)


def test_what_another_collection_wrote_meanwhile_is_not_told_as_ours(
    root: Path, collect: Callable[..., tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = LastTime.keep

    def overtaken(*arguments: Any, **options: Any) -> None:
        for file in (root / "tables").iterdir():
            file.write_text("of another margin")
        keep(*arguments, **options)

    monkeypatch.setattr(LastTime, "keep", overtaken)
    collect(root)
    monkeypatch.undo()
    assert "seeds 0-2" in collect(root)[0]
    assert "of another margin" not in (root / "tables" / "tables.md").read_text()


@pytest.mark.parametrize(
    "name", [CACHE_NAME, ".fseed/collect-memo.json", f".fseed/{LAST_TIME_NAME}"]
)
def test_a_pipe_in_place_of_what_is_kept_is_not_waited_for(
    root: Path, collect: Callable[..., tuple[str, bool]], name: str
) -> None:
    first, _ = collect(root)
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    assert collect(root)[0] == first


def test_a_folder_that_leads_elsewhere_is_not_written_to(
    root: Path, tmp_path: Path, collect: Callable[..., tuple[str, bool]]
) -> None:
    (tmp_path / "victim").mkdir()
    (root / ".fseed").symlink_to(tmp_path / "victim")
    collect(root)
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("kind", ["computed", "told again"])
def test_without_a_standard_output_the_tables_are_written(root: Path, kind: str) -> None:
    command = f"exec {sys.executable} -m fseed.collect {root} >&-"
    for _ in range(1 if kind == "computed" else 2):
        assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
    assert (root / "tables" / "tables.md").exists()


FORGERIES = {
    "a command to the terminal": lambda told: told["printed"].update(
        dict.fromkeys(told["printed"], "\x1b]0;title\x07helps")
    ),
    "another kind of text": lambda told: told.update(printed=["helps"]),
    "texts that are none": lambda told: told["printed"].update(dict.fromkeys(told["printed"], 1)),
    "another kind of folders": lambda told: told.update(written="tables"),
    "another kind of files": lambda told: told.update(
        written={folder: [] for folder in told["written"]}
    ),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_a_stranger_wrote_is_neither_printed_nor_relied_on(
    root: Path, collect: Callable[..., tuple[str, bool]], kind: str
) -> None:
    first, _ = collect(root)
    kept = (root / CACHE_NAME).with_name(LAST_TIME_NAME)
    told = json.loads(kept.read_bytes().partition(b"\n")[2])
    FORGERIES[kind](told)
    content = json.dumps(told)
    kept.write_text(f"{zlib.crc32(content.encode())}\n{content}")
    assert collect(root) == (first, True)
