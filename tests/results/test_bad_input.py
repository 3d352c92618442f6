"""Whatever lies in a folder: named with its path, never a traceback, never dropped."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fseed import record_schema
from fseed.collect import main
from fseed.records import read_run, scan, write_json_atomic
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep

ARM = RunSpec(arm="scalar_l10", loss=0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def collect(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Return exit code and everything printed; the same again from the cache, or it is an error."""
    told = []
    for _ in range(2):
        code = main([str(root), "--format", "none", *options])
        captured = capsys.readouterr()
        told.append((code, captured.out + captured.err))
    assert told[0] == told[1]
    return told[0]


def change(path: Path, **changes: Any) -> None:
    write_json_atomic(path, {**json.loads(path.read_text()), **changes})


@pytest.mark.parametrize("version", [1, 3, "2", None])
@pytest.mark.parametrize("name", ["choices.json", "provenance.json", "result.json"])
def test_mixed_schema_versions(
    root: Path, capsys: pytest.CaptureFixture[str], name: str, version: object
) -> None:
    finish_run(root, RunSpec())
    path = finish_run(root, ARM)
    change(path / name, schema_version=version)
    code, out = collect(root, capsys)
    assert code == 1
    reason = "no schema_version" if version is None else f"unknown schema version {version!r}"
    (line,) = (line for line in out.splitlines() if line.strip().startswith("unreadable: "))
    assert f"{name}: {reason}" in line
    assert line.endswith(str(path))
    assert "1 finished, 1 unreadable" in out


def test_every_prefix_of_a_run_is_half_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of a run in the order in which they are written, cut anywhere."""
    finish_run(root, RunSpec())
    names = ["config.yaml", "choices.json", "provenance.json", "metrics.jsonl"]
    names += ["predictions.parquet", "result.json"]
    paths = []
    for kept in range(len(names)):
        path = finish_run(root, ARM.with_(seed=kept, loss=1.0 + kept))
        for name in names[kept:]:
            (path / name).unlink()
        paths.append(path)
    (finish_run(root, ARM.with_(seed=9)) / ".result.json.1234.tmp").write_text('{"half')
    code, out = collect(root, capsys)
    assert (code, f"{len(names)} unfinished" in out) == (0, True)
    assert all(f"{path}\n" in out for path in paths)


def test_duplicate_run_ids(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = finish_run(root, RunSpec())
    second = finish_run(root, RunSpec(sweep="second", loss=1.5))
    code, out = collect(root, capsys)
    assert code == 0
    assert f"stands twice, with other numbers, the first is counted: {first} and {second}" in out


def test_arms_without_baseline(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(root, ARM)
    finish_run(root, RunSpec(seed=1))
    code, out = collect(root, capsys)
    assert code == 0
    assert "no matched baseline" in out
    assert "nearest no_fs run differs: seed 0 vs 1" in " ".join(out.split())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("metric", ["token_accuracy", "loss"])
def test_numbers_that_are_none(
    root: Path, capsys: pytest.CaptureFixture[str], metric: str, value: float
) -> None:
    finish_run(root, RunSpec())
    path = finish_run(root, ARM.with_(scores={metric: value}))
    code, out = collect(root, capsys)
    assert code == 0
    assert f"invalid: {metric} is {value} after the last step: {path}" in out


def test_nan_among_the_examples(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow

    from fseed.records import write_parquet_atomic

    path = finish_run(root, ARM)
    table = read_run(path).predictions()
    index = table.column_names.index("score")
    spoilt = pyarrow.array([float("nan")] * table.num_rows, pyarrow.float64())
    table = table.set_column(index, table.schema.field("score"), spoilt)
    write_parquet_atomic(path / "predictions.parquet", table)
    _, out = collect(root, capsys)
    assert f"0.500000 in result.json, nan from predictions: {path}" in out


def test_empty_folders(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "a" / "b" / "c").mkdir(parents=True)
    code, out = collect(root, capsys)
    assert (code, out.splitlines()[-1]) == (1, f"fseed.collect: no runs below {root}")
    empty = root / "sweep" / "hotpot" / "plain" / "scalar_l10" / "s3-0123456789"
    empty.mkdir(parents=True)
    code, out = collect(root, capsys)
    assert (code, f"unfinished: nothing written yet: {empty}" in out) == (0, True)


@pytest.mark.parametrize("num_folders", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_hundred_thousand_files_that_are_none_of_ours(
    root: Path, capsys: pytest.CaptureFixture[str], num_folders: int
) -> None:
    finish_run(root, RunSpec())
    for number in range(num_folders):
        folder = root / f"other{number:03}"
        folder.mkdir()
        for name in range(1000):
            os.close(os.open(folder / f"{name}.txt", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    found = scan([root])
    # a third of a second for all of them on an idle machine
    assert time.process_time() - start < 0.05 * num_folders
    assert (len(found.run_dirs), found.num_foreign_files) == (1, 1000 * num_folders)
    main([str(root), "--format", "none"])
    assert f"; {num_folders},000 files that belong to no run passed over" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["config.yaml", "result.json", "predictions.parquet"])
def test_files_without_permission(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = finish_run(root, ARM)
    (path / name).chmod(0)
    _, out = collect(root, capsys)
    assert f"{name}: [Errno 13] Permission denied" in out
    assert str(path) in out


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "predictions.parquet"])
def test_files_that_refuse_to_be_read(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same for root, who may read everything."""
    path, read_bytes = finish_run(root, ARM), Path.read_bytes

    def refuse(file: Path) -> bytes:
        if file.name == name:
            raise PermissionError(13, "Permission denied", str(file))
        return read_bytes(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    _, out = collect(root, capsys)
    assert f"{name}: [Errno 13] Permission denied" in out
    assert str(path) in out
    monkeypatch.undo()
    # what could not be read once is not remembered
    assert "1 finished" in collect(root, capsys)[1]


def test_a_log_that_refuses_to_be_read_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finish_run(root, ARM) / "metrics.jsonl"
    path.unlink()
    path.mkdir()
    _, out = collect(root, capsys)
    assert f"cannot be read (not a regular file): {path}" in out
    assert "1 finished" in out


def test_a_log_that_is_missing_or_ends_early_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = finish_run(root, ARM) / "metrics.jsonl"
    short.write_text("".join(short.read_text().splitlines(keepends=True)[:-1]))
    missing = finish_run(root, ARM.with_(seed=1)) / "metrics.jsonl"
    missing.unlink()
    _, out = collect(root, capsys)
    assert f"ends at step 30, the run at 40: {short}" in out
    assert f"is missing: {missing}" in out
    assert "2 finished" in out


def test_two_sweeps_in_one_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    for seed in range(3):
        spec = RunSpec(sweep="second", seed=seed, changes={"budget.steps": 80}, loss=5.0 + seed)
        finish_run(root, spec)
        finish_run(root, spec.with_(arm="scalar_l10", loss=6.0 + seed))
    code, out = collect(root, capsys)
    assert code == 0
    assert "12 finished" in out
    # one table a budget, never one row of both
    assert sum(line.startswith("task hotpot") for line in out.splitlines()) == 2
    assert "budget.steps=80" in out


def test_loops_of_links(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finish_run(root, RunSpec())
    (root / "loop").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    (root / "away").symlink_to(root.parent)
    (root / "nowhere").symlink_to(root / "missing")
    (path.parent / "s1-0123456789").symlink_to(path)
    code, out = collect(root, capsys)
    assert (code, "1 finished" in out) == (0, True)


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "result.json"])
def test_huge_files_are_named_and_not_read(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = finish_run(root, ARM)
    with (path / name).open("r+b") as file:
        file.truncate(2**40)
    _, out = collect(root, capsys)
    assert f"unreadable: {name}: 1,099,511,627,776 bytes; a record has at most" in out
    assert str(path) in out


@pytest.mark.parametrize("name", ["predictions.parquet", "metrics.jsonl"])
def test_huge_data_files_are_named_and_not_read(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = finish_run(root, ARM)
    with (path / name).open("r+b") as file:
        file.truncate(record_schema.MAX_BYTES + 1)
    _, out = collect(root, capsys)
    assert "268,435,457 bytes; a record has at most 268,435,456" in out
    assert str(path) in out


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "predictions.parquet"])
def test_pipes_in_place_of_files_do_not_block(
    root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = finish_run(root, ARM)
    (path / name).unlink()
    os.mkfifo(path / name)
    _, out = collect(root, capsys)
    assert f"{name}: not a regular file" in out
    assert str(path) in out


def test_deep_nesting_is_no_traceback(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [finish_run(root, ARM.with_(seed=seed, loss=1.0 + seed)) for seed in range(2)]
    (paths[0] / "result.json").write_text("[" * 100_000)
    (paths[1] / "metrics.jsonl").write_text("[" * 100_000 + "\n")
    _, out = collect(root, capsys)
    assert f"torn lines left out (1): {paths[1]}/metrics.jsonl" in out
    assert f"{paths[0]}\n" in out


def test_names_that_are_not_utf8(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root.mkdir()
    folder = os.fsencode(root) + b"/\xff\xfe/hotpot/plain/arm/s0-0123456789"
    os.makedirs(folder)
    code, out = collect(root, capsys)
    assert (code, "\\udcff\\udcfe/hotpot" in out) == (0, True)


def test_everything_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All runs are counted, whatever their state, and every one that gives no number is named."""
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    named = [
        fail_run(root, ARM.with_(seed=10)),
        start_run(root, ARM.with_(seed=11)),
        finish_run(root, ARM.with_(seed=12, scores={"loss": float("nan")})),
        finish_run(root, ARM.with_(seed=13, loss=9.0)),
    ]
    (named[-1] / "result.json").write_bytes(b"\x00")
    (root / "notes.txt").touch()
    code, out = collect(root, capsys)
    assert code == 1
    assert "runs  6 finished, 1 failed, 1 unfinished, 1 invalid, 1 unreadable" in out
    assert "1 files that belong to no run" in out
    assert all(f"{path}\n" in out for path in named)
