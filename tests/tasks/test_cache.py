import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from task_helpers import Bytes, data_config, task_config, write_data

from fseed.config.schema import DataConfig, MbppConfig, SourceKind, TaskConfig
from fseed.errors import UserError
from fseed.tasks import cache, loading
from fseed.tasks.cache import CacheOutcome, CacheReport
from fseed.tasks.loading import TaskData
from fseed.tasks.registry import build_request, check_data, load_task_data, load_with_report

BYTES: Any = Bytes()
BUILDER = """
import sys, time
from pathlib import Path
from task_helpers import Bytes, data_config, task_config
from fseed.tasks.registry import load_with_report
ready, start = Path(sys.argv[1]), Path(sys.argv[2])
ready.touch()
while not start.exists():
    time.sleep(0.001)
data, report = load_with_report(task_config(), data_config(), Bytes())
print(report.outcome.value, len(data.splits["train"]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the cache on in an empty folder."""
    monkeypatch.setenv("FSEED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(
    task: TaskConfig | None = None, data: DataConfig | None = None, **options: Any
) -> tuple[TaskData, CacheReport]:
    tokenizer = options.pop("tokenizer", BYTES)
    return load_with_report(task or task_config(), data or data_config(), tokenizer, **options)


def outcomes(*calls: tuple[TaskData, CacheReport]) -> list[str]:
    return [report.outcome.value for _, report in calls]


def test_second_load_is_a_hit_and_equal(folder: Path) -> None:
    built, hit = load(), load()
    assert outcomes(built, hit) == ["built", "hit"]
    assert built[0] == hit[0]
    assert built[1].path == hit[1].path
    assert list(folder.iterdir()) == [built[1].path]
    # what a run calls goes the same way, and reads nothing but the entry
    assert load_task_data(task_config(), data_config(), BYTES) == built[0]


def test_a_hit_builds_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("built again"))
    assert outcomes(load()) == ["hit"]


def test_order_aliases_and_spelt_out_defaults_share_an_entry(folder: Path) -> None:
    one = load(task_config(order="question_last"))
    assert outcomes(one, load(task_config(order="q_after"))) == ["built", "hit"]


def test_everything_the_examples_depend_on_is_in_the_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    calls = [
        load(task_config(order="evidence_last")),
        load(task_config(max_length_tokens=300)),
        load(task_config(max_answer_tokens=40)),
        load(data=data_config(num_train=19)),
        load(data=data_config(seed=1)),
        load(splits=("train", "validation", "test")),
    ]
    other: Any = Bytes()
    other.fingerprint = "other"
    calls.append(load(tokenizer=other))
    monkeypatch.setattr(cache, "FORMAT_VERSION", 2)
    calls.append(load())
    monkeypatch.setattr(cache, "source_fingerprint", lambda parts: "other code")
    calls.append(load())
    monkeypatch.setattr(np, "__version__", "other")
    calls.append(load())
    assert outcomes(*calls) == ["built"] * 10
    assert len(list(folder.iterdir())) == 11


def test_options_and_scoring_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    request = build_request(task_config(), data_config(), splits=("train",))
    plain = cache.describe(request, BYTES, scoring=MbppConfig())
    slow = MbppConfig(timeout_seconds=20)
    assert cache.describe(request, BYTES, scoring=slow) == plain
    executing = replace(request, task=replace(request.task, executes_code=True))
    facts = [cache.describe(executing, BYTES, scoring=s) for s in (MbppConfig(), slow)]
    assert facts[0] != facts[1]
    assert plain["task"]["options"] == {}
    assert json.loads(json.dumps(plain)) == plain


def test_changed_source_is_noticed(folder: Path, tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    data = data_config(SourceKind.local, root=str(root))
    first = load(data=data)
    copied = data_config(SourceKind.local, root=str(write_data(tmp_path / "copy")))
    assert outcomes(first, load(data=data), load(data=copied)) == ["built", "hit", "hit"]
    write_data(tmp_path / "data", num_train=41)
    changed = load(data=data)
    assert outcomes(changed) == ["built"]
    assert changed[0].data_hash != first[0].data_hash


def test_rows_that_change_while_they_are_read_are_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = loading.load
    monkeypatch.setattr(
        loading, "load", lambda *args, **options: replace(build(*args, **options), data_hash="new")
    )
    assert outcomes(load(), load()) == ["built", "built"]
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no arrow", "folder"])
def test_damaged_entry_is_built_anew_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    built, report = load()
    path = report.path
    assert path is not None
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        kept = {"cut": content[:-100], "empty": b"", "no arrow": b"x" * 50}.get(damage, content)
        path.write_bytes(kept)
    again = load()
    assert outcomes(again) == ["built"]
    assert again[0] == built
    lines = capsys.readouterr().err.splitlines()
    assert "cannot be used" in lines[0]
    assert path.name in lines[0]
    # a folder in its place cannot be replaced either, which is said too
    assert len(lines) == (2 if damage == "folder" else 1)
    assert outcomes(load()) == (["built"] if damage == "folder" else ["hit"])


def test_entry_is_an_arrow_stream_that_says_what_it_is(folder: Path) -> None:
    _, report = load()
    assert report.path is not None
    with pa.ipc.open_stream(report.path.read_bytes()) as reader:
        content = json.loads(reader.schema.metadata[b"fseed"])
        counts = [batch.num_rows for batch in reader]
    assert counts == [20, 10]
    assert content["facts"]["task"]["order"] == "question_last"
    assert content["facts"]["tokenizer"] == "bytes"
    assert "root" not in content["facts"]["data"]


def test_two_processes_may_build_at_once(folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ready = [tmp_path / f"ready{number}" for number in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(path), str(start)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in ready
    ]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in ready) and time.monotonic() < deadline:
        time.sleep(0.01)
    start.touch()
    results = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert all(out.split()[1] == "20" and err == "" for out, err in results)
    assert "built" in {out.split()[0] for out, _ in results}
    assert [path.suffix for path in folder.iterdir()] == [".arrows"]
    assert outcomes(load()) == ["hit"]


def test_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # a file where the folder should be: also root cannot write there
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FSEED_CACHE", str(tmp_path / "file" / "cache"))
    data, report = load()
    assert report.outcome is CacheOutcome.built
    assert len(data.splits["train"]) == 20
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "FSEED_CACHE=off" in lines[-1]


def test_off_neither_reads_nor_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    monkeypatch.setenv("FSEED_CACHE", "off")
    monkeypatch.setenv("HOME", str(folder / "home"))
    data, report = load()
    assert report.outcome is CacheOutcome.off
    assert report.path is None
    assert len(data.splits["train"]) == 20
    assert len(list(folder.iterdir())) == 1


def test_errors_of_building_are_not_kept(folder: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="examples wanted"):
            load(task_config(max_length_tokens=5))
    assert not folder.exists()


def test_rows_that_passed_the_check_are_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_config(SourceKind.local, root=str(write_data(tmp_path / "data")))
    check_data(task_config(), data)
    assert [path.suffix for path in folder.iterdir()] == [".checked"]
    calls = []
    monkeypatch.setattr(loading, "check", calls.append)
    check_data(task_config(), data)
    assert calls == []
    write_data(tmp_path / "data", num_train=41)
    check_data(task_config(), data)
    check_data(task_config(), replace(data, num_train=19))
    check_data(task_config(), data, splits=("train",))
    monkeypatch.setenv("FSEED_CACHE", "off")
    check_data(task_config(), data)
    assert len(calls) == 4


def test_rows_that_fail_the_check_fail_again(folder: Path, tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    data = data_config(SourceKind.local, root=str(root), num_train=1000)
    for _ in range(2):
        with pytest.raises(UserError, match="num_train=1000"):
            check_data(task_config(), data)
    assert not folder.exists()


def test_a_check_needs_no_folder_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FSEED_CACHE", str(tmp_path / "file" / "cache"))
    root = write_data(tmp_path / "data")
    check_data(task_config(), data_config(SourceKind.local, root=str(root)))
    assert capsys.readouterr().err == ""


def test_a_hit_counts_as_use_and_writing_makes_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, unused = load()[1].path, load(data=data_config(seed=1))[1].path
    assert kept is not None
    assert unused is not None
    for path in (kept, unused):
        os.utime(path, (1e9, 1e9))
    load()
    monkeypatch.setattr(cache.prune, "__kwdefaults__", {"max_bytes": 2.5 * kept.stat().st_size})
    load(data=data_config(seed=2))
    assert kept.exists()
    assert not unused.exists()


def test_builder_parts_exist() -> None:
    package = Path(cache.__file__).parents[1]
    assert {p for p in cache.BUILDER_PARTS if not (package / p).exists()} <= {"sandbox"}
