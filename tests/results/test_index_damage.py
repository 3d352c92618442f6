import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_run
from fseed.results import index
from fseed.results.index import load_runs
from fseed.results.runs import load_run
from fseed.results.signatures import sign_folder
from tests.results.builders import RunSpec, finish_run
from tests.results.kept_runs import assert_same, make_runs, num_kept, settle


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


def test_a_damaged_cache_is_named_and_made_anew(
    tmp_path: Path, count: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run(tmp_path / "runs", RunSpec())
    paths, cache = settle(tmp_path / "runs"), tmp_path / "cache.bin"
    plain = load_runs(paths, cache=cache)
    whole = cache.read_bytes()
    for broken in damage(whole):
        cache.write_bytes(broken)
        count()
        capsys.readouterr()
        assert_same(load_runs(paths, cache=cache)[0], plain[0])
        assert count() == 1
        note = "is damaged or of another version: every run is read anew"
        assert capsys.readouterr().err == f"fseed.collect: {cache} {note}\n"
        assert cache.read_bytes() == whole


def test_a_whole_cache_with_another_content_is_made_anew(
    tmp_path: Path, count: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = finish_run(tmp_path / "runs", RunSpec())
    paths, cache = settle(tmp_path / "runs"), tmp_path / "cache.bin"
    entry = (str(path), sign_folder(str(path)))
    for text in (b"[]", b"{}", b'{"parts":[1],"arrays":[],"runs":[{}]}', b"{", b"\xff"):
        data = len(text).to_bytes(8, "little") + text
        index._write_cache(cache, [index.Batch([entry], data)])
        count()
        assert load_runs(paths, cache=cache)[0].status == "finished"
        assert count() == 1
        assert "every run is read anew" in capsys.readouterr().err


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
    assert num_kept(cache) == len(paths) - 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def die(_: object) -> None:
    os._exit(9)


def test_a_killed_process_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, here = make_runs(tmp_path / "runs"), os.getpid()
    load_batch = index._load_batch

    def die_elsewhere(names: Any) -> Any:
        return load_batch(names) if os.getpid() == here else die(names)

    monkeypatch.setattr(index, "_MIN_PARALLEL", 2)
    monkeypatch.setattr(index, "num_cores", lambda: 2)
    # found by name in the processes, which are forks of this one
    die_elsewhere.__module__, die_elsewhere.__qualname__ = index.__name__, "_load_batch"
    monkeypatch.setattr(index, "_load_batch", die_elsewhere)
    assert [run.status for run in load_runs(paths)] == [
        load_run(read_run(path)).status for path in paths
    ]


def test_no_code_runs_from_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache.bin"
    finish_run(tmp_path / "runs", RunSpec())
    load_runs(settle(tmp_path / "runs"), cache=cache)
    (batch,) = index._read_cache(cache)
    end = 8 + int.from_bytes(batch.data[:8], "little")
    assert isinstance(json.loads(bytes(batch.data[8:end])), dict)
