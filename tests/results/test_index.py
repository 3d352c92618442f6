import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_run, scan
from fseed.results import beside, index, signatures
from fseed.results.collection import collect_runs
from fseed.results.index import CACHE_NAME, default_cache_path, load_runs, without_garbage_collector
from fseed.results.runs import Run, load_run
from fseed.results.stored_run import decode_runs, encode_runs, is_exact
from fseed.results.tables import render_markdown
from tests.results.builders import RunSpec, finish_run, write_sweep
from tests.results.kept_runs import assert_same, make_runs, num_kept, settle


def test_runs_survive_bytes_exactly(tmp_path: Path) -> None:
    paths = make_runs(tmp_path)
    runs = [load_run(read_run(path)) for path in paths]
    assert all(map(is_exact, runs))
    for left, right in zip(decode_runs(encode_runs(runs), paths), runs, strict=True):
        assert_same(left, right)


def test_what_json_would_change_is_not_encoded(tmp_path: Path) -> None:
    run = load_run(read_run(finish_run(tmp_path, RunSpec())))
    for odd in ({1: "a"}, {"a": (1, 2)}, {"a": Path("b")}, {"a": {1.5}}):
        assert not is_exact(replace(run, settings=odd))
        assert not is_exact(replace(run, record=replace(run.record, config=odd)))


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
    monkeypatch.setattr(signatures, "SETTLED_SECONDS", 1000.0)
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
    assert index._read_cache(cache) == []


def test_full_batches_stay_and_the_others_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_BATCH", 4)
    root, cache = tmp_path / "runs", tmp_path / "cache.bin"

    def sizes() -> list[int]:
        load_runs(settle(root), cache=cache)
        return sorted(len(batch.entries) for batch in index._read_cache(cache))

    specs = [RunSpec(seed=seed) for seed in range(9)]
    folders = [finish_run(root, spec) for spec in specs[:6]]
    assert sizes() == [2, 4]
    whole = next(batch for batch in index._read_cache(cache) if len(batch.entries) == 4)
    data = bytes(whole.data)
    finish_run(root, specs[6])
    assert sizes() == [3, 4]
    kept = [bytes(batch.data) for batch in index._read_cache(cache)]
    assert data in kept
    folders += [finish_run(root, spec) for spec in specs[7:]]
    assert sizes() == [1, 4, 4]
    # a batch that loses a run is no longer full
    shutil.rmtree(Path(whole.entries[0][0]))
    assert sizes() == [4, 4]
    assert len(load_runs(settle(root), cache=cache)) == 8


def test_the_files_are_looked_up_beside_the_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "MIN_RUNS", 2)
    monkeypatch.setattr(beside, "num_cores", lambda: 2)
    paths, cache = make_runs(tmp_path / "runs"), tmp_path / "cache.bin"
    plain = load_runs(paths, cache=cache)
    (paths[0] / "result.json").unlink()
    changed = load_runs(paths, cache=cache)
    assert changed[0].status == "unfinished"
    for left, right in zip(changed[1:], plain[1:], strict=True):
        assert_same(left, right)


def test_several_processes_give_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_runs(tmp_path / "runs")
    plain = load_runs(paths)
    monkeypatch.setattr(index, "_MIN_PARALLEL", 2)
    monkeypatch.setattr(index, "_BATCH", 3)
    monkeypatch.setattr(index, "num_cores", lambda: 2)
    parallel = load_runs(paths, cache=tmp_path / "cache.bin")
    for left, right in zip(plain, parallel, strict=True):
        assert_same(left, right)
    assert num_kept(tmp_path / "cache.bin") == len(paths) - 1


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


def test_the_collector_of_cycles_comes_back() -> None:
    import gc

    with without_garbage_collector():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_runs_keep_the_order_asked_for(tmp_path: Path) -> None:
    paths = make_runs(tmp_path / "runs")[::-1]
    runs: list[Run] = load_runs(paths, cache=tmp_path / "cache.bin")
    assert [run.record.path for run in runs] == paths
