from pathlib import Path

import numpy as np
import pytest

from fseed.errors import UserError
from fseed.results.staged_files import read_decisions
from fseed.results.statistics import ASSUMED_DEVIATION, smallest_detectable_effect
from fseed.sweep.staged.dry_run import Count, count_runs, render_dry_run
from fseed.sweep.staged.estimates import (
    estimate_deviation,
    estimate_seconds,
)
from fseed.sweep.staged.probe_file import Probe, write_probes
from fseed.sweep.staged.stages import Stage
from tests.configs import compose
from tests.sweep.fake_training import files_below
from tests.sweep.staged.sweeps import Bench, ScoredTraining, helps_by

TASKS = ("hotpot", "arc")


@pytest.mark.parametrize(
    ("stage", "controls", "expected"),
    [
        (Stage("quick", (0, 1, 2, 3, 4), (3, 5)), True, Count(3 * 4, 5 * 4)),
        (Stage("medium", (5, 6, 7), (3,)), True, Count(0, 3 * 4)),
        (Stage("confirm", (8, 9, 10, 11, 12), (5,)), False, Count(0, 5 * 4)),
        # no_fs, 3 arms, 5 controls of each, and the doubled prompt that they share
        (Stage("confirm", (8, 9, 10, 11, 12), (5,)), True, Count(0, 5 * (1 + 3 + 15 + 1))),
    ],
)
def test_runs_are_counted_by_hand(stage: Stage, controls: bool, expected: Count) -> None:
    assert count_runs(stage, num_arms=3, has_controls=controls) == expected


@pytest.mark.parametrize(
    "arms", [pytest.param(("scalar_l10",), marks=pytest.mark.slow), ("scalar_l10", "raw_l10")]
)
def test_the_count_of_the_confirm_stage_is_what_runs(tmp_path: Path, arms: tuple) -> None:
    bench = Bench(tmp_path, controls=True)
    bench.arms = arms
    train = ScoredTraining(helps_by(scalar_l10=0.05, raw_l10=0.06))
    assert bench.run(train) == 0
    confirm = bench.build().stages[-1]
    most = count_runs(confirm, num_arms=len(arms), has_controls=True).most
    assert sum(" confirm " in name for name in train.started) == most


def test_a_dry_run_tells_costs_and_writes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "budget.steps=10", "budget.batch_size=4", tasks=TASKS)
    text = render_dry_run(bench.build(), against=None)
    assert files_below(tmp_path) == []
    tokens = 10 * 4 * max(compose(f"task={task}").config.task.max_length_tokens for task in TASKS)
    quick = next(line for line in text.splitlines() if line.startswith("quick"))
    assert quick.split()[5:11] == ["9", "to", "15", f"{9 * tokens:,}", "to", f"{15 * tokens:,}"]
    effect = smallest_detectable_effect(ASSUMED_DEVIATION, num_seeds=5)
    assert quick.endswith(f"{100 * effect:.2f} pp")
    assert "hotpot: 9 to 45 runs, time unknown until the probe" in text
    assert "all: 18 to 90 runs" in text
    assert "deviation over seeds of 1.00 pp (assumed, none is recorded)" in text
    assert "controls of a confirmed arm: none (sweep.controls=false)" in text


def test_the_threshold_rule_is_told_for_what_it_is(tmp_path: Path) -> None:
    words = ["sweep.rule=threshold", "sweep.quick_seeds=1"]
    text = render_dry_run(Bench(tmp_path, *words).build(), against=None)
    assert "the earlier protocol: a mean difference on few seeds, without an interval" in text
    assert "nothing: one seed has no spread" in text


def test_a_probe_gives_the_time_until_runs_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "budget.steps=10")
    write_probes(bench.folder, {"hotpot": Probe("raw_l10", 16, None, 0.5, 1.0)})
    text = render_dry_run(bench.build(), against=None)
    assert "about 5 s each (probe: training alone, at most)" in text
    assert "all: 9 to 45 runs, 45 s to 3.8 min one after the other" in text
    bench.run(ScoredTraining(helps_by(scalar_l10=0.05, raw_l10=-0.05)))
    text = render_dry_run(bench.build(), against=None)
    assert "about 3 s each (median of 25 earlier runs, training and scoring)" in text


def test_time_comes_from_runs_of_the_same_size_only(tmp_path: Path) -> None:
    Bench(tmp_path, "budget.steps=10").run(ScoredTraining(helps_by(raw_l10=-0.1)))
    sweep = Bench(tmp_path, "budget.steps=20", "sweep.name=other").build()
    run = next(iter(sweep.book._runs.values()))
    found = estimate_seconds(run, root=tmp_path, probe=None)
    assert (found.value, found.source) == (None, "unknown until the probe")


def test_the_deviation_is_pooled_over_recorded_pairs(tmp_path: Path) -> None:
    assert estimate_deviation([tmp_path]).value == ASSUMED_DEVIATION
    bench = Bench(tmp_path)
    bench.run(ScoredTraining(helps_by(scalar_l10=0.05, raw_l10=-0.05)))
    found = estimate_deviation([tmp_path / "missing", bench.folder])
    groups = [[pair.difference for pair in d.inputs] for d in read_decisions(bench.folder)]
    squares = [float(np.var(values, ddof=1)) for values in groups]
    assert found.value == pytest.approx(np.mean(squares) ** 0.5)
    assert found.source == "recorded in default"


def test_a_damaged_file_of_decisions_is_told(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"decisions\.jsonl:1"):
        estimate_deviation([tmp_path])
