"""Arms that do nothing, through whole sweeps: how often does one get a verdict?"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from fseed.config.schema import SweepConfig
from fseed.simulation.pipeline import SIGNIFICANCE, Design, Outcome, search
from fseed.simulation.rates import Rate, count
from fseed.simulation.scores import WORLDS, World
from fseed.simulation.tables import Cell, Table, rate_cells
from fseed.sweep.decisions import RULES, Rules

NUM_ARMS = 6
NUM_TASKS = 3
FRUGAL = "race, half the gain"
TITLE = "Verdicts on arms that do nothing"
TEXT = f"""\
Sweeps of {NUM_TASKS} tasks and {NUM_ARMS} arms whose true difference is zero, through quick,
medium and confirm with the decisions and the statistics of the product and the seeds of the
default configuration (quick / medium / confirm); the threshold rule with one quick and one medium
seed, as rounds 20 and 21 had it. `{FRUGAL}` drops an undecided arm at the last rung of a
stage unless its mean reaches half the wanted gain. A family is the arms of one task; a false
verdict is `helps` or `hurts`. Holm promises 5 % of families. Whole sweeps are held against the
same 5 %, which Holm per task does not promise: it is what counting the pruned arms leaves. In the
world of skewed arms the means are equal and the shapes are not: no A/A comparison, but a null all
the same.

- `confirm, as reported`: Holm over all arms, pruned ones counted. This is the product.
- `confirm, pruned arms not counted`: Holm over the confirmed arms alone.
- `quick table`: what the table of the quick stage says if it gives verdicts
  (Benjamini-Hochberg), an arm having the seeds that its decisions left it with; `p times looks`:
  with every p value multiplied by the number of rungs that could have ended the seeds of an arm.
- `passing as a claim`: the earlier protocol, where an arm that passes quick and medium is kept
  as an improvement."""


def study_false_positives(*, num_sweeps: int, generator: np.random.Generator) -> Table:
    """Return the rates of false verdicts for every world and rule."""
    rows: list[dict[str, Cell]] = []
    for world in WORLDS:
        for name, design in designs().items():
            outcome = simulate_nulls(world, design, num_sweeps=num_sweeps, generator=generator)
            rows += _rows(world, name, design, outcome)
    return Table("false_positives", TITLE, TEXT, rows)


def simulate_nulls(
    world: World, design: Design, *, num_sweeps: int, generator: np.random.Generator
) -> Outcome:
    """Return the outcome of sweeps without any effect; the tasks of a sweep are neighbours."""
    return search(
        world,
        np.zeros(NUM_ARMS),
        design,
        num_families=num_sweeps * NUM_TASKS,
        generator=generator,
    )


def designs() -> dict[str, Design]:
    """Return the searches that are tried: every rule, and the race that spends its seeds better."""
    return {rule: default_design(rule) for rule in RULES} | {FRUGAL: frugal_race()}


def frugal_race() -> Design:
    """Return a race of few search seeds that asks an undecided arm for half the wanted gain."""
    rules = replace(default_design("race").rules, promising_fraction=0.5)
    return Design(rules, 3, 3, 12)


def default_design(rule: str) -> Design:
    """Return the design of the default configuration, for threshold that of rounds 20 and 21."""
    sweep = SweepConfig()
    rules = Rules(
        rule,
        wanted_gain=sweep.wanted_gain,
        significance=sweep.significance,
        keep_fraction=sweep.keep_fraction,
        quick_threshold=sweep.quick_threshold,
        medium_threshold=sweep.medium_threshold,
    )
    if rule == "threshold":
        return Design(rules, 1, 1, sweep.confirm_seeds)
    return Design(rules, sweep.quick_seeds, sweep.medium_seeds, sweep.confirm_seeds)


def of_sweeps(of_families: ArrayLike) -> Rate:
    """Return the rate of sweeps with at least one flagged family, from flags [F]."""
    return count(np.asarray(of_families).reshape(-1, NUM_TASKS).any(axis=1))


def _rows(world: World, name: str, design: Design, outcome: Outcome) -> list[dict[str, Cell]]:
    reported = outcome.claims.any(axis=1)
    uncounted = count(outcome.uncounted.any(axis=1))
    cases = [
        ("confirm, as reported", "family", count(reported)),
        ("confirm, as reported", "sweep", of_sweeps(reported)),
        ("confirm, pruned arms not counted", "family", uncounted),
    ]
    if design.rules.rule == "threshold":
        kept = count(outcome.kept.any(axis=1))
        cases.append(("passing as a claim", "family", kept))
    else:
        explored, corrected = (
            count(flags.any(axis=1)) for flags in (outcome.explored, outcome.corrected)
        )
        cases.append(("quick table", "family", explored))
        cases.append(("quick table, p times looks", "family", corrected))
    labels = {"world": world.name, "A/A": "yes" if world.is_aa else "no", "rule": name}
    labels["seeds"] = design.seeds_text
    return [
        labels
        | {"verdicts from": source, "per": unit}
        | rate_cells(rate)
        | {"verdict": rate.against_most(SIGNIFICANCE)}
        | {"runs per task": float(outcome.num_runs.mean())}
        for source, unit, rate in cases
    ]
