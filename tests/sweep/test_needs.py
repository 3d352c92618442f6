"""Disk and time before a start: sizes against real files, refusals, and the line that tells."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fseed.errors import UserError
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed.sweep import needs
from fseed.sweep.needs import (
    Estimate,
    check_disk,
    check_time,
    checkpoint_bytes,
    estimate_sweep,
    free_bytes,
    num_parameters,
    render_needs,
    run_needs,
    sweep_bytes,
)
from fseed.sweep.plan import plan_sweep
from fseed.training.runner import train_run
from tests.configs import build_config, composer
from tests.sweep.fake_training import finish
from tests.training.build import plan as plan_tiny
from tests.training.build import tiny_config

GIB = 2**30


def plan(root: Path, *words: str):
    points = [composer().compose(["fs=scalar_l10", f"output.root={root}", *words])]
    return plan_sweep(points, compose=composer().compose).to_run


@pytest.mark.parametrize("model", ["nano", "rwkv7_0b1"])
def test_parameters_are_those_of_the_model(model):
    config = build_config(f"model={model}").model
    names = RWKV7Shape.__dataclass_fields__
    shape = RWKV7Shape(**{name: getattr(config, name) for name in names})
    with torch.device("meta"):
        built = RWKV7(shape)
    assert num_parameters(config) == sum(one.numel() for one in built.parameters())


@pytest.mark.parametrize("words", [(), ("task=hotpot_retrieval",)])
def test_what_a_run_leaves_is_at_most_what_was_told(tmp_path, words):
    values = {"output__keep_checkpoint": True, "output__save_weights": True}
    values |= {"task__max_answer_tokens": 64 if words else 8, "budget__steps": 2}
    config = tiny_config(*words, **values)
    config = replace(config, model=replace(config.model, width=128, ffn_width=512))
    assert train_run(plan_tiny(config, tmp_path)).status == "finished"
    checkpoint = (tmp_path / "checkpoint.ckpt").stat().st_size
    assert 0.7 < checkpoint / checkpoint_bytes(config) < 1.05
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert total <= run_needs(config).kept
    assert run_needs(config).kept < 1.3 * total


def test_retention_decides_what_is_kept():
    config = build_config()
    plain = run_needs(config)
    with_weights = run_needs(replace(config, output=replace(config.output, save_weights=True)))
    with_checkpoint = run_needs(
        replace(config, output=replace(config.output, keep_checkpoint=True))
    )
    size = checkpoint_bytes(config)
    assert with_weights.kept - plain.kept == pytest.approx(size / 3, rel=0.01)
    assert with_checkpoint.kept - plain.kept == size
    # two checkpoints while it runs, whatever is kept of them
    assert with_checkpoint.kept + with_checkpoint.passing == plain.kept + plain.passing


def test_only_what_runs_at_once_keeps_checkpoints(tmp_path):
    runs = plan(tmp_path, "seed=1") + plan(tmp_path, "seed=2")
    one, two = (sweep_bytes(runs, num_at_once=number) for number in (1, 2))
    assert two - one == run_needs(runs[0].config).passing


def test_what_stands_there_already_is_not_needed_again(tmp_path):
    runs = plan(tmp_path)
    before = sweep_bytes(runs, num_at_once=1)
    runs[0].run_dir.mkdir(parents=True)
    (runs[0].run_dir / "checkpoint.ckpt").write_bytes(bytes(100_000))
    assert before - sweep_bytes(runs, num_at_once=1) == 100_000


def test_free_bytes_are_those_of_the_nearest_folder(tmp_path):
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free, rel=0.05)


@pytest.fixture
def disk(monkeypatch):
    found = SimpleNamespace(f_bavail=0, f_frsize=4096)
    monkeypatch.setattr(needs.os, "statvfs", lambda place: found)
    return found


def test_too_little_disk_is_one_line_with_what_to_do(tmp_path, disk):
    disk.f_bavail = GIB // 4096
    check_disk(GIB // 2, root=tmp_path)
    with pytest.raises(UserError) as told:
        check_disk(2 * GIB, root=tmp_path)
    text = str(told.value)
    assert text.startswith("needs about 2.0 GiB of disk, 1.0 GiB are free at")
    assert "python -m fseed.clean" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("seconds", "max_hours", "is_refused"),
    [(7300, 2, True), (7200, 2, False), (None, 2, False), (10**9, None, False)],
)
def test_max_hours_refuses_what_is_known_to_take_longer(seconds, max_hours, is_refused):
    estimate = Estimate(seconds, "median of 3 earlier runs")
    if not is_refused:
        check_time(estimate, max_hours=max_hours)
        return
    with pytest.raises(UserError, match=r"about 2\.0 h \(median of 3 .* sweep\.max_hours=2:"):
        check_time(estimate, max_hours=max_hours)


def test_time_is_that_of_earlier_runs_of_the_same_size(tmp_path, monkeypatch):
    first, second = plan(tmp_path, "seed=3"), plan(tmp_path, "seed=4")
    assert estimate_sweep(second, num_at_once=1).value is None
    finish(first[0])
    monkeypatch.setattr("fseed.sweep.staged.estimates._seconds_like", lambda run, result: 100.0)
    found = estimate_sweep(second, num_at_once=1)
    assert found == Estimate(200.0, "median of 1 earlier runs, training and scoring")
    assert estimate_sweep(second, num_at_once=2).value == 100.0


def test_the_line_says_everything_or_why_not(tmp_path, disk):
    disk.f_bavail = 5 * GIB // 4096
    estimate = Estimate(720.0, "median of 3 earlier runs")
    assert render_needs(3 * GIB // 2, estimate, root=tmp_path) == (
        "needs about 1.5 GiB of disk, 5.0 GiB free; about 12.0 min (median of 3 earlier runs)"
    )
    unknown = render_needs(GIB, Estimate(None, "4 of 4 runs are like none before"), root=tmp_path)
    assert unknown.endswith("time unknown: 4 of 4 runs are like none before")
