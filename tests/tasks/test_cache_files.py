"""Entries of the cache as files: where they lie, damage, speed, and which go first."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from task_helpers import encoded

from fseed.tasks import cache
from fseed.tasks.base import EncodedExample
from fseed.tasks.cache import prune, read_entry, write_entry
from fseed.tasks.loading import TaskData
from fseed.tasks.preflight import Preflight, SplitReport


def small_data(examples: list[EncodedExample]) -> TaskData:
    report = SplitReport(
        num_rows=9,
        num_examples=len(examples),
        dropped={"a": 1},
        overlap={},
        num_cut=0,
        num_lost_gold=0,
        num_bare=0,
        kinds={"only": 2},
        prompt_tokens={"p50": 1.5},
        answer_tokens={},
    )
    preflight = Preflight("hotpot", "mini", "question_last", {"train": report})
    return TaskData({"train": examples}, preflight, "ab" * 32, {"f1": 0.1}, {})


def test_every_cut_and_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "entry.arrows"
    write_entry(path, small_data([encoded("yes")]), {})
    content = path.read_bytes()
    damaged = [content[:length] for length in range(0, len(content), 7)]
    for place in range(0, len(content), 11):
        damaged.append(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="checksum"):
            read_entry(path)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FSEED_CACHE": "/a/b"}, "/a/b"),
        ({"FSEED_CACHE": "~/c"}, "/home/me/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/fseed"),
        ({"FSEED_CACHE": "", "XDG_CACHE_HOME": "relative"}, "/home/me/.cache/fseed"),
        ({}, "/home/me/.cache/fseed"),
        ({"FSEED_CACHE": "off", "XDG_CACHE_HOME": "/x"}, None),
    ],
)
def test_place_of_the_cache(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None
) -> None:
    for name in ("FSEED_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = cache.cache_folder()
    assert (None if found is None else str(found)) == expected


def test_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        path = tmp_path / f"{name}.arrows"
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "notes.txt").write_bytes(b"x" * 50_000)
    # a file without content still takes its place
    passed = tmp_path / "passed.checked"
    passed.touch()
    os.utime(passed, (1e9 - 0.5, 1e9 - 0.5))
    young, stale = tmp_path / ".a.arrows.1.tmp", tmp_path / ".b.arrows.2.tmp"
    young.touch()
    stale.touch()
    os.utime(stale, (1e9, 1e9))
    prune(tmp_path, keep=tmp_path / "oldest.arrows", max_bytes=33_000)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("new.arrows", "passed.checked", "oldest.arrows", "notes.txt", young.name)
    }


@pytest.mark.parametrize("num", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_two_thousand_long_examples_load_in_a_second(tmp_path: Path, num: int) -> None:
    rng = np.random.default_rng([0, 1])
    examples = [
        replace(encoded(str(number)), prompt_ids=rng.integers(0, 65_536, 4096).tolist())
        for number in range(num)
    ]
    path = tmp_path / "entry.arrows"
    write_entry(path, small_data(examples), {})
    assert read_entry(path) == small_data(examples)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        read_entry(path)
        seconds.append(time.process_time() - started)
    assert min(seconds) < num / 2000, seconds
