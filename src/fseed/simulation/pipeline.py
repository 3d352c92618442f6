"""Simulated sweeps through the decisions and the verdict statistics of the product.

Axes: F families, A arms, S seeds. Quick and medium stage, each on seeds of its own, decide who is
confirmed; the confirmation, on fresh seeds again, is judged by Holm with the pruned arms counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fseed.results.multiplicity import benjamini_hochberg, holm
from fseed.results.statistics import MIN_SEEDS, paired_t_p_value
from fseed.simulation.scores import Array, World, draw_differences
from fseed.sweep.decisions import Rules, decide, rungs_of

SIGNIFICANCE = 0.05
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Design:
    """A staged search: its rule and the seeds of its stages; a stage of 0 seeds is left out."""

    rules: Rules
    quick_seeds: int
    medium_seeds: int
    confirm_seeds: int

    @property
    def seeds_text(self) -> str:
        """The seeds of quick, medium and confirm, in that order."""
        return f"{self.quick_seeds} / {self.medium_seeds} / {self.confirm_seeds}"


@dataclass(frozen=True)
class Outcome:
    """What a search said of every arm of every family, and how many runs it took.

    ``helps``, ``hurts`` [F, A]: verdicts at confirmation. ``uncounted`` [F, A]: either of them if
    pruned arms did not count in the family. ``kept`` [F, A]: passed quick and medium.
    ``explored`` [F, A]: helps or hurts in the table of the quick stage, were it to give verdicts,
    Benjamini-Hochberg adjusted; ``corrected`` [F, A]: the same with every p value times the
    number of looks. ``num_runs`` [F] counts baselines too.
    """

    helps: Flags
    hurts: Flags
    uncounted: Flags
    kept: Flags
    explored: Flags
    corrected: Flags
    num_runs: NDArray[np.int64]

    @property
    def claims(self) -> Flags:
        """Verdicts other than inconclusive [F, A]."""
        return self.helps | self.hurts


def search(
    world: World,
    effects: ArrayLike,
    design: Design,
    *,
    num_families: int,
    generator: np.random.Generator,
) -> Outcome:
    """Run ``design`` on ``num_families`` simulated families with the true ``effects`` [A]."""
    num_arms = np.asarray(effects).size
    stages = {
        stage: draw_differences(
            world, effects, num_families=num_families, num_seeds=seeds, generator=generator
        )
        for stage, seeds in _stages(design)
    }
    rows = [
        _search_one({stage: values[index] for stage, values in stages.items()}, num_arms, design)
        for index in range(num_families)
    ]
    verdicts, alone, kept, explored, corrected, num_runs = map(np.array, zip(*rows, strict=True))
    return Outcome(verdicts > 0, verdicts < 0, alone != 0, kept, explored, corrected, num_runs)


def judge(
    differences: Sequence[Array], *, family_size: int, method: str = "holm", looks: int = 1
) -> NDArray[np.int64]:
    """Return +1 helps, -1 hurts or 0 per row of paired differences [S], adjusted by ``method``.

    ``looks`` is how often a decision could have ended the seeds of a row: a factor on its p value.
    """
    adjust = holm if method == "holm" else benjamini_hochberg
    p_values = [min(1.0, looks * paired_t_p_value(row)) for row in differences]
    is_found = adjust(p_values, family_size=family_size) < SIGNIFICANCE
    signs = np.array([np.sign(np.mean(row)) for row in differences], dtype=np.int64)
    return np.where(is_found, signs, 0)


def _stages(design: Design) -> list[tuple[str, int]]:
    named = [
        ("quick", design.quick_seeds),
        ("medium", design.medium_seeds),
        ("confirm", design.confirm_seeds),
    ]
    return [(stage, seeds) for stage, seeds in named if seeds > 0]


def _search_one(
    stages: dict[str, Array], num_arms: int, design: Design
) -> tuple[NDArray[np.int64], NDArray[np.int64], Flags, Flags, Flags, int]:
    """Return the columns of an Outcome for one family, verdicts as +1, -1 or 0."""
    alive, num_runs = list(range(num_arms)), 0
    explored, corrected = np.zeros(num_arms, bool), np.zeros(num_arms, bool)
    verdicts, alone = np.zeros(num_arms, np.int64), np.zeros(num_arms, np.int64)
    for stage in ("quick", "medium"):
        if stage in stages and alive:
            seeds, passed = run_stage(stages[stage], alive, stage=stage, rules=design.rules)
            num_runs += sum(seeds.values()) + max(seeds.values())
            if stage == "quick":
                looks = len(rungs_of(design.rules.rule, stages[stage].shape[1]))
                explored = _explore(stages[stage], seeds, num_arms=num_arms, looks=1)
                corrected = _explore(stages[stage], seeds, num_arms=num_arms, looks=looks)
            alive = passed
    if "confirm" in stages and alive:
        rows = stages["confirm"][alive]
        num_runs += (len(alive) + 1) * rows.shape[1]
        verdicts[alive] = judge(list(rows), family_size=num_arms)
        alone[alive] = judge(list(rows), family_size=len(alive))
    return verdicts, alone, np.isin(np.arange(num_arms), alive), explored, corrected, num_runs


def run_stage(
    differences: Array, arms: Sequence[int], *, stage: str, rules: Rules
) -> tuple[dict[int, int], list[int]]:
    """Let ``decide`` choose among ``arms`` rung by rung on ``differences`` [A, S] of the stage.

    Returns the seeds that each arm used, and the arms that passed.
    """
    rungs = rungs_of(rules.rule, differences.shape[1])
    seeds: dict[int, int] = {}
    alive, passed = list(arms), []
    for rung, num_seeds in enumerate(rungs):
        seeds |= dict.fromkeys(alive, num_seeds)
        given = {str(arm): differences[arm, :num_seeds].tolist() for arm in alive}
        made = decide(given, stage=stage, rung=rung, num_rungs=len(rungs), rules=rules)
        passed += [int(one.arm) for one in made if one.state == "passed"]
        alive = [int(one.arm) for one in made if one.state == "continues"]
    return seeds, sorted(passed)


def _explore(differences: Array, seeds: dict[int, int], *, num_arms: int, looks: int) -> Flags:
    """Tell which arms [A] the table of the quick stage would call helps or hurts."""
    found = np.zeros(num_arms, bool)
    tested = [arm for arm, number in seeds.items() if number >= MIN_SEEDS]
    rows = [differences[arm, : seeds[arm]] for arm in tested]
    if rows:
        found[tested] = judge(rows, family_size=len(seeds), method="bh", looks=looks) != 0
    return found
