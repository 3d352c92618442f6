"""Collected again from what was kept: the same bytes as read anew, whatever has changed since."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fseed.collect import main
from fseed.results import beside, index
from fseed.results.index import CACHE_NAME
from fseed.results.memo import MEMO_NAME
from tests.results.builders import RunSpec, fail_run, finish_run, random_spec, write_sweep
from tests.results.staged import write_staged_sweep

ARMS = {"scalar_l10": 0.1, "head_l10": 0.0}
LATER = random_spec(arm="scalar_l10", seed=7, num_examples=20, effect=0.1)


def folder_of(root: Path, arm: str, seed: int) -> Path:
    (path,) = (root / "default" / "hotpot" / "plain" / arm).glob(f"s{seed}-*")
    return path


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def add_runs(root: Path) -> None:
    finish_run(root, LATER)
    finish_run(root, LATER.with_(arm="no_fs"))


def add_an_arm(root: Path) -> None:
    for seed in range(4):
        finish_run(root, random_spec(arm="raw_l10", seed=seed, num_examples=20))


def add_a_task(root: Path) -> None:
    for arm in ("no_fs", *ARMS):
        for seed in range(3):
            spec = random_spec(arm=arm, seed=seed, num_examples=12)
            finish_run(root, spec.with_(changes={"task.name": "arc"}))


def add_a_failure(root: Path) -> None:
    fail_run(root, RunSpec(arm="raw_l10", seed=3), message="out of memory")


def edit_a_result(root: Path) -> None:
    path = folder_of(root, "scalar_l10", 1) / "result.json"
    replace_text(path, '"wall_seconds": 12.5', '"wall_seconds": 13.5')


def edit_predictions(root: Path) -> None:
    source, target = (folder_of(root, arm, 2) for arm in ("no_fs", "head_l10"))
    shutil.copy(source / "predictions.parquet", target / "predictions.parquet")


def edit_a_config(root: Path) -> None:
    path = folder_of(root, "head_l10", 0) / "config.yaml"
    replace_text(path, "batch_size: 8", "batch_size: 4")


def edit_a_log(root: Path) -> None:
    path = folder_of(root, "head_l10", 1) / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "train", "step"')


def break_a_record(root: Path) -> None:
    (folder_of(root, "no_fs", 0) / "provenance.json").write_text("{")


def delete_a_baseline(root: Path) -> None:
    shutil.rmtree(folder_of(root, "no_fs", 3))


def delete_an_arm(root: Path) -> None:
    shutil.rmtree(root / "default" / "hotpot" / "plain" / "head_l10")


def delete_predictions(root: Path) -> None:
    (folder_of(root, "scalar_l10", 3) / "predictions.parquet").unlink()


def move_a_run(root: Path) -> None:
    path = folder_of(root, "scalar_l10", 0)
    path.rename(root / path.name)


def damage_what_is_kept(root: Path) -> None:
    kept = root / CACHE_NAME
    kept.write_bytes(kept.read_bytes()[:-7])
    kept.with_name(MEMO_NAME).write_text("{")


CHANGES = (
    *(add_runs, add_an_arm, add_a_task, add_a_failure),
    *(edit_a_result, edit_predictions, edit_a_config, edit_a_log, break_a_record),
    *(delete_a_baseline, delete_an_arm, delete_predictions, move_a_run, damage_what_is_kept),
)


def settle(root: Path) -> None:
    """Make all files old enough to be kept."""
    for path in root.rglob("*"):
        if path.is_file() and ".fseed" not in path.parts:
            os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, bytes]]:
    """Return a function that collects into all formats and returns what it wrote and printed."""
    out = tmp_path / "out"

    def collect(root: Path, *arguments: str) -> dict[str, bytes]:
        shutil.rmtree(out, ignore_errors=True)
        capsys.readouterr()
        main([str(root), "--out", str(out), *arguments])
        printed = capsys.readouterr().out.encode()
        return {path.name: path.read_bytes() for path in out.iterdir()} | {"printed": printed}

    return collect


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_the_bytes_are_those_of_reading_anew(
    tmp_path: Path, told: Callable[..., dict[str, bytes]], change: Callable[[Path], None]
) -> None:
    root = tmp_path / "runs"
    write_sweep(root, arms=ARMS, num_seeds=4, num_examples=20)
    settle(root)
    before = told(root)
    assert told(root) == before
    change(root)
    after = told(root)
    assert after == told(root) == told(root, "--no-cache")
    assert (after == before) is (change is damage_what_is_kept)


def test_several_processes_give_the_same_bytes(
    tmp_path: Path, told: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    write_sweep(root, arms=ARMS, num_seeds=4, num_examples=20)
    settle(root)
    plain = told(root, "--no-cache")
    monkeypatch.setattr(beside, "MIN_RUNS", 2)
    monkeypatch.setattr(index, "_MIN_PARALLEL", 2)
    monkeypatch.setattr(index, "_BATCH", 5)
    for module in (beside, index):
        monkeypatch.setattr(module, "num_cores", lambda: 2)
    assert told(root) == plain
    assert told(root) == plain
    add_runs(root)
    assert told(root) == told(root, "--no-cache") != plain


def test_decisions_of_a_staged_sweep_are_read_each_time(
    tmp_path: Path, told: Callable[..., dict[str, bytes]]
) -> None:
    folder = write_staged_sweep(tmp_path / "runs", tasks=("hotpot",))
    settle(tmp_path / "runs")
    before = told(tmp_path / "runs")
    path = folder / "decisions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    after = told(tmp_path / "runs")
    assert after == told(tmp_path / "runs", "--no-cache")
    assert after != before


def test_another_margin_is_another_answer(
    tmp_path: Path, told: Callable[..., dict[str, bytes]]
) -> None:
    write_sweep(tmp_path / "runs", arms=ARMS, num_seeds=4, num_examples=20)
    settle(tmp_path / "runs")
    plain, wide = told(tmp_path / "runs"), told(tmp_path / "runs", "--margin", "20")
    assert wide == told(tmp_path / "runs", "--margin", "20", "--no-cache")
    assert wide != plain
