import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fseed.records import read_run, scan
from fseed.results import index
from fseed.results.collection import collect_runs
from fseed.results.index import CACHE_NAME, default_cache_path, load_runs, without_garbage_collector
from fseed.results.runs import Run, load_run
from fseed.results.stored_run import decode_run, encode_run
from fseed.results.tables import render_markdown
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep


def make_runs(root: Path) -> list[Path]:
    """Write runs of every status and return their folders."""
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(root, RunSpec(arm="raw_l10"))
    start_run(root, RunSpec(arm="raw_l10", seed=1))
    finish_run(root, RunSpec(arm="nan", scores={"loss": float("nan")}))
    torn = finish_run(root, RunSpec(arm="torn", loss=3.5)) / "metrics.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"step": 41, "lo')
    damaged = finish_run(root, RunSpec(arm="damaged", loss=4.5)) / "result.json"
    damaged.write_text("{")
    return settle(root)


def settle(root: Path) -> list[Path]:
    """Make all files old enough to be believed and return the run folders."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))
    return scan([root]).run_dirs


def assert_same(left: Any, right: Any) -> None:
    """Compare nested dataclasses with arrays, field by field and bit by bit."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()
    elif hasattr(left, "__dataclass_fields__"):
        for field in fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    else:
        assert repr(left) == repr(right)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that tells how many runs were read since it was last called."""
    read: list[Path] = []

    def reading(path: Path) -> Any:
        read.append(path)
        return read_run(path)

    monkeypatch.setattr(index, "read_run", reading)

    def take() -> int:
        number = len(read)
        read.clear()
        return number

    return take


def test_a_run_survives_bytes_exactly(tmp_path: Path) -> None:
    for path in make_runs(tmp_path):
        run = load_run(read_run(path))
        data = encode_run(run)
        assert data is not None
        assert_same(decode_run(data), run)


def test_what_json_would_change_is_not_encoded(tmp_path: Path) -> None:
    run = load_run(read_run(finish_run(tmp_path, RunSpec())))
    for odd in ({1: "a"}, {"a": (1, 2)}, {"a": Path("b")}, {"a": {1.5}}):
        assert encode_run(replace(run, settings=odd)) is None


def test_the_cache_gives_the_same_runs_without_reading(
    tmp_path: Path, count: Callable[[], int]
) -> None:
    paths, cache = make_runs(tmp_path / "runs"), tmp_path / "cache.bin"
    plain = load_runs(paths)
    assert count() == len(paths)
    first = load_runs(paths, cache=cache)
    assert count() == len(paths)
    again = load_runs(paths, cache=cache)
    # only the run that cannot be read is tried again
    assert count() == 1
    for runs in (first, again):
        for left, right in zip(plain, runs, strict=True):
            assert_same(left, right)


def test_only_new_and_changed_runs_are_read(tmp_path: Path, count: Callable[[], int]) -> None:
    cache = tmp_path / "cache.bin"
    write_sweep(tmp_path / "runs", arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    load_runs(settle(tmp_path / "runs"), cache=cache)
    assert count() == 6
    added = finish_run(tmp_path / "runs", RunSpec(arm="scalar_l8"))
    paths = scan([tmp_path / "runs"]).run_dirs
    load_runs(paths, cache=cache)
    assert count() == 1
    shutil.rmtree(added)
    runs = load_runs(scan([tmp_path / "runs"]).run_dirs, cache=cache)
    assert (count(), len(runs)) == (0, 6)


@pytest.mark.parametrize("name", ["result.json", "config.yaml", "provenance.json", "choices.json"])
def test_an_edit_of_the_same_size_is_seen(tmp_path: Path, name: str) -> None:
    path, cache = finish_run(tmp_path / "runs", RunSpec()), tmp_path / "cache.bin"
    paths = settle(tmp_path / "runs")
    load_runs(paths, cache=cache)
    told = (path / name).stat()
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[:-2] + b"\x01\x01")
    # size and time of change put back: what remains is the time of the inode
    os.utime(path / name, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert load_runs(paths, cache=cache)[0].status != "finished"


def test_a_deleted_file_is_seen(tmp_path: Path) -> None:
    path, cache = finish_run(tmp_path / "runs", RunSpec()), tmp_path / "cache.bin"
    paths = settle(tmp_path / "runs")
    assert load_runs(paths, cache=cache)[0].status == "finished"
    (path / "predictions.parquet").unlink()
    assert load_runs(paths, cache=cache)[0].reason == "predictions.parquet is missing"


def test_files_that_just_changed_are_not_kept(
    tmp_path: Path, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_SETTLED_SECONDS", 1000.0)
    path = finish_run(tmp_path / "runs", RunSpec())
    for _ in range(2):
        load_runs([path], cache=tmp_path / "cache.bin")
        assert count() == 1


def test_a_run_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = finish_run(tmp_path / "runs", RunSpec()), tmp_path / "cache.bin"
    paths = settle(tmp_path / "runs")

    def finish_late(run_dir: Path) -> Any:
        record = read_run(run_dir)
        (path / "late.txt").touch()
        os.utime(path / "late.txt", ns=(10**18, 10**18))
        return record

    monkeypatch.setattr(index, "read_run", finish_late)
    load_runs(paths, cache=cache)
    (path / "late.txt").unlink()
    monkeypatch.undo()
    assert index._read_cache(cache) == {}


def damage(data: bytes) -> list[bytes]:
    middle = len(data) // 2
    return [
        b"",
        b"other file",
        data[:-1],
        data[:middle],
        data + b"x",
        data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        data.replace(b'"code"', b'"kode"', 1),
    ]


def test_a_damaged_cache_is_made_anew(tmp_path: Path, count: Callable[[], int]) -> None:
    finish_run(tmp_path / "runs", RunSpec())
    paths, cache = settle(tmp_path / "runs"), tmp_path / "cache.bin"
    plain = load_runs(paths, cache=cache)
    whole = cache.read_bytes()
    for broken in damage(whole):
        cache.write_bytes(broken)
        count()
        assert_same(load_runs(paths, cache=cache)[0], plain[0])
        assert count() == 1
        assert cache.read_bytes() == whole


def test_a_cache_of_other_code_is_not_believed(
    tmp_path: Path, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_run(tmp_path / "runs", RunSpec())
    paths, cache = settle(tmp_path / "runs"), tmp_path / "cache.bin"
    load_runs(paths, cache=cache)
    count()
    monkeypatch.setattr(index, "source_fingerprint", lambda _: "another version")
    load_runs(paths, cache=cache)
    assert count() == 1


def test_the_code_that_makes_an_entry_is_named() -> None:
    package = Path(index.__file__).parents[1]
    assert all((package / name).is_file() for name in index._CODE)


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    finish_run(tmp_path / "runs", RunSpec())
    (tmp_path / "file").touch()
    (run,) = load_runs(settle(tmp_path / "runs"), cache=tmp_path / "file" / "cache.bin")
    assert run.status == "finished"
    (tmp_path / "cache.bin").mkdir()
    (run,) = load_runs(settle(tmp_path / "runs"), cache=tmp_path / "cache.bin")
    assert run.status == "finished"


def test_collectors_at_once_leave_a_whole_cache(tmp_path: Path) -> None:
    paths, cache = make_runs(tmp_path / "runs"), tmp_path / "cache.bin"
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: load_runs(paths, cache=cache), range(8)))
    assert len({repr([(run.status, run.last) for run in runs]) for runs in results}) == 1
    assert len(index._read_cache(cache)) == len(paths) - 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_several_processes_give_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_runs(tmp_path / "runs")
    plain = load_runs(paths)
    monkeypatch.setattr(index, "_MIN_PARALLEL", 2)
    monkeypatch.setattr(index, "_BATCH", 3)
    monkeypatch.setattr(index, "_num_workers", lambda: 2)
    parallel = load_runs(paths, cache=tmp_path / "cache.bin")
    for left, right in zip(plain, parallel, strict=True):
        assert_same(left, right)
    assert len(index._read_cache(tmp_path / "cache.bin")) == len(paths) - 1


def die(_: object) -> None:
    os._exit(9)


def test_a_killed_process_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, here = make_runs(tmp_path / "runs"), os.getpid()
    load_batch = index._load_batch

    def die_elsewhere(names: Any) -> Any:
        return load_batch(names) if os.getpid() == here else die(names)

    monkeypatch.setattr(index, "_MIN_PARALLEL", 2)
    monkeypatch.setattr(index, "_num_workers", lambda: 2)
    # found by name in the processes, which are forks of this one
    die_elsewhere.__module__, die_elsewhere.__qualname__ = index.__name__, "_load_batch"
    monkeypatch.setattr(index, "_load_batch", die_elsewhere)
    assert [run.status for run in load_runs(paths)] == [
        load_run(read_run(path)).status for path in paths
    ]


def test_the_cache_lies_beside_the_runs_and_is_no_foreign_file(tmp_path: Path) -> None:
    path = finish_run(tmp_path / "a", RunSpec())
    assert default_cache_path([tmp_path / "a"]) == tmp_path / "a" / CACHE_NAME
    assert default_cache_path([path]) == path.parent / CACHE_NAME
    settle(tmp_path)
    first = collect_runs([tmp_path / "a"], cache=default_cache_path([tmp_path / "a"]))
    again = collect_runs([tmp_path / "a"], cache=default_cache_path([tmp_path / "a"]))
    assert (tmp_path / "a" / CACHE_NAME).is_file()
    assert again.num_foreign_files == 0
    assert render_markdown(again) == render_markdown(first)


def test_no_code_runs_from_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache.bin"
    finish_run(tmp_path / "runs", RunSpec())
    load_runs(settle(tmp_path / "runs"), cache=cache)
    (entry,) = index._read_cache(cache).values()
    end = 8 + int.from_bytes(entry[1][:8], "little")
    assert isinstance(json.loads(bytes(entry[1][8:end])), dict)


def test_the_collector_of_cycles_comes_back() -> None:
    import gc

    with without_garbage_collector():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_runs_keep_the_order_asked_for(tmp_path: Path) -> None:
    paths = make_runs(tmp_path / "runs")[::-1]
    runs: list[Run] = load_runs(paths, cache=tmp_path / "cache.bin")
    assert [run.record.path for run in runs] == paths
