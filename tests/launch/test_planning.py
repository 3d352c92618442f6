"""Points that differ in their seed alone share the work of composing and checking them."""

from pathlib import Path

import pytest

from fseed.compose.loader import Composer
from fseed.config.schema import RunConfig
from fseed.sweep import prepare
from fseed.sweep.plan import plan_run, plan_sweep
from fseed.sweep.prepare import Preparer
from tests.configs import composer


@pytest.mark.parametrize(
    "words",
    [
        ["seed=7"],
        ["fs=head_l8", "seed=0", "alpha.init=-2.5"],
        ["seed=12", "experiment=round20", "fs=raw_l10"],
        ["seed=3", "hydra/launcher=basic", "budget.steps=2"],
    ],
)
def test_a_shared_composition_is_the_same(words: list[str]) -> None:
    fast = composer().compose(words)
    slow = Composer(composer().loader)._compose(words)
    assert fast == slow
    assert fast.config.seed == int(next(word for word in words if word.startswith("seed"))[5:])


def test_a_thousand_seeds_are_composed_and_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[list[str]] = []
    checked: list[RunConfig] = []
    original_compose, original_check = Composer._compose, prepare.check_model

    def compose(self: Composer, overrides: list[str]):
        composed.append(overrides)
        return original_compose(self, overrides)

    def check(config: RunConfig) -> None:
        checked.append(config)
        original_check(config)

    monkeypatch.setattr(Composer, "_compose", compose)
    monkeypatch.setattr(prepare, "check_model", check)
    own = Composer(composer().loader)
    words = ["fs=scalar_l10", f"output.root={tmp_path}"]
    points = [own.compose([*words, f"seed={seed}"]) for seed in range(100)]
    plan = plan_sweep(points, compose=own.compose)
    assert (len(plan.entries), len(composed), len(checked)) == (200, 2, 2)
    seeds = [entry.run.config.seed for entry in plan.entries]
    assert seeds == [seed for seed in range(100) for _ in range(2)]
    assert len({entry.run.run_id for entry in plan.entries}) == 200
    assert plan.position(plan.entries[150].run) == "151/200"


def test_a_shared_preparation_is_the_same(tmp_path: Path) -> None:
    preparer = Preparer()
    for seed in (0, 5):
        point = composer().compose([f"output.root={tmp_path}", f"seed={seed}"])
        shared, alone = plan_run(point, preparer=preparer), plan_run(point)
        assert shared == alone
        assert shared.run.config.seed == seed
