"""A staged sweep that is started again: after its end, a kill at any write, or damage."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from fseed import atomic
from fseed.errors import UserError
from fseed.sweep.staged import decisions_file
from tests.sweep.fake_training import files_below
from tests.sweep.staged.sweeps import GOOD_AND_BAD, Bench, ScoredTraining, decided, finish_with


def test_a_finished_sweep_starts_nothing_and_decides_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    names = ("plan.json", "decisions.jsonl", "probe.json")
    before = {name: (bench.folder / name).read_bytes() for name in names}
    again = ScoredTraining(GOOD_AND_BAD)
    assert bench.run(again) == 0
    assert again.started == []
    assert {name: (bench.folder / name).read_bytes() for name in names} == before
    assert len(bench.probed) == 1
    assert len(bench.shown) == 2
    assert bench.view.lines[0].startswith("resumed")


class Killed(BaseException):
    """Stands for kill -9: no handler of the program may catch it."""


@pytest.mark.parametrize("num_writes", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_sweep_killed_at_any_write_resumes_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_writes: int
) -> None:
    """Stop again and again after so many writes of the sweep's own files and of results."""
    whole = Bench(tmp_path / "whole")
    assert whole.run(ScoredTraining(GOOD_AND_BAD)) == 0
    expected = decided(whole)
    bench = Bench(tmp_path / "killed")
    finished: list[str] = []
    real_replace, real_fsync = os.replace, os.fsync
    countdown = 0

    def tick() -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            raise Killed

    def replace(source: Path, target: Path) -> None:
        if target.name in ("plan.json", "probe.json", "result.json"):
            tick()
        real_replace(source, target)
        if target.name == "result.json":
            finished.append(str(target))

    def fsync(descriptor: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")) == "decisions.jsonl":
            tick()
        real_fsync(descriptor)

    monkeypatch.setattr(atomic.os, "replace", replace)
    monkeypatch.setattr(decisions_file.os, "fsync", fsync)
    kills = 0
    while True:
        countdown = num_writes  # so many writes further each time
        try:
            code = bench.run(ScoredTraining(GOOD_AND_BAD))
            break
        except Killed:
            kills += 1
    assert code == 0
    assert kills * num_writes >= 25
    assert decided(bench) == expected
    assert max(Counter(finished).values()) == 1
    assert len(finished) == sum(path.endswith("result.json") for path in files_below(whole.root))


def test_a_torn_last_decision_is_taken_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    path = bench.folder / "decisions.jsonl"
    text = path.read_text()
    path.write_text(text[:-40])
    assert bench.run(ScoredTraining(GOOD_AND_BAD)) == 0
    assert path.read_text() == text


def test_changed_records_are_told_with_the_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    sweep = bench.build()
    paths = sorted((bench.folder / "hotpot" / "quick" / "raw_l10").iterdir())
    run = next(
        sweep.book.run(slot, seed=0)
        for slot in sweep.book._entries
        if (slot.arm, slot.stage, slot.control) == ("raw_l10", "quick", "none")
    )
    assert run.run_dir == paths[0]
    finish_with(run, 0.9)
    with pytest.raises(UserError, match=r"decisions\.jsonl line 2: hotpot quick rung 0 of raw_l10"):
        bench.run(ScoredTraining(GOOD_AND_BAD))


def test_a_decision_that_nothing_leads_to_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(GOOD_AND_BAD))
    path = bench.folder / "decisions.jsonl"
    line = json.loads(path.read_text().splitlines()[1]) | {"stage": "medium"}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"line 4: decides hotpot medium rung 0 of raw_l10, which"):
        bench.run(ScoredTraining(GOOD_AND_BAD))
