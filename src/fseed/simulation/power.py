"""One planted arm among arms that do nothing: which search finds it for the same number of runs?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fseed.results.statistics import MIN_SEEDS
from fseed.simulation.false_positives import FRUGAL, NUM_ARMS, default_design, frugal_race
from fseed.simulation.pipeline import Design, Outcome, search
from fseed.simulation.rates import count
from fseed.simulation.scores import WORLDS, Array, World
from fseed.simulation.tables import Cell, Table, rate_cells

NORMAL, HETEROSCEDASTIC, SKEWED_ARMS = WORLDS[0], WORLDS[2], WORLDS[5]
# world, planted gain, budget in budgets of the default race
CASES = (
    *((NORMAL, gain, 1) for gain in (0.01, 0.02, 0.03, 0.04, 0.06)),
    (NORMAL, 0.02, 2),
    (HETEROSCEDASTIC, 0.03, 1),
    (SKEWED_ARMS, 0.03, 1),
)
CLAIM = "threshold, passing as a claim"
_PILOT_FAMILIES = 500
_MAX_SEEDS = 80
_TOLERANCE, _TOO_DEAR = 0.01, 1.2
TITLE = "Power at equal cost"
TEXT = f"""\
One arm of {NUM_ARMS} has the planted gain, the others none. Every search may use the runs that
the default race takes on average (baselines counted), once twice as many; the seeds of its last
stage are the smallest number that spends them, so none of its rivals has fewer runs than the
race. Found: the planted arm is called `helps`. False: another arm of the family is called helps
or hurts. Seeds: quick / medium / confirm.

- `race`, `halving`, `threshold`: the rule, then our confirmation with Holm.
- `{FRUGAL}`: a race that drops an undecided arm at the last rung of a stage unless its mean
  reaches half the wanted gain.
- `no search`: every arm on the same seeds, Holm.
- `threshold, passing as a claim`: the earlier protocol, without a confirmation: an arm that
  passes quick and medium counts as found, or as false."""


@dataclass(frozen=True)
class Contestant:
    """A search whose last stage takes as many seeds as the budget allows."""

    name: str
    design: Design
    is_claim: bool = False  # passing quick and medium is the claim

    def with_seeds(self, num_seeds: int) -> Design:
        """Return the design with ``num_seeds`` in the part that grows with the budget."""
        if self.is_claim:
            return replace(self.design, quick_seeds=num_seeds, medium_seeds=num_seeds)
        return replace(self.design, confirm_seeds=num_seeds)

    def claims(self, outcome: Outcome) -> np.ndarray:
        """Return the claims [F, A]: +1 a gain, -1 a loss, 0 none."""
        if self.is_claim:
            return outcome.kept.astype(int)
        return outcome.helps.astype(int) - outcome.hurts.astype(int)


def contestants() -> list[Contestant]:
    """Return every search that is compared; the first sets the budget."""
    race, threshold = default_design("race"), default_design("threshold")
    halving = default_design("halving")
    return [
        Contestant("race", race),
        Contestant("race", replace(race, quick_seeds=3, medium_seeds=3)),
        Contestant("race", replace(race, quick_seeds=3, medium_seeds=0)),
        Contestant(FRUGAL, frugal_race()),
        Contestant("halving", replace(halving, quick_seeds=3, medium_seeds=3)),
        Contestant("threshold", threshold),
        Contestant("threshold", replace(threshold, quick_seeds=3, medium_seeds=3)),
        Contestant("no search", replace(race, quick_seeds=0, medium_seeds=0)),
        Contestant(CLAIM, replace(threshold, confirm_seeds=0), is_claim=True),
    ]


def study_power(*, num_families: int, generator: np.random.Generator) -> Table:
    """Return found and false rates for every planted effect, budget and search."""
    rows: list[dict[str, Cell]] = []
    for world, effect, share in CASES:
        effects = np.array([effect] + [0.0] * (NUM_ARMS - 1))
        pilot = search(
            world,
            effects,
            default_design("race"),
            num_families=_PILOT_FAMILIES,
            generator=generator,
        )
        budget = share * float(pilot.num_runs.mean())
        labels = {"world": world.name, "gain pp": 100 * effect, "budget": budget}
        found = [
            compete(
                contestant,
                world,
                effects,
                budget=budget,
                num_families=num_families,
                generator=generator,
            )
            for contestant in contestants()
        ]
        rows += [labels | cells for cells in name_the_beaten([one for one in found if one])]
    return Table("power", TITLE, TEXT, rows)


def name_the_beaten(rows: Sequence[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """Add a verdict to the default race, the first row: which rival has an interval above its own.

    Searches that claim without a confirmation are no rivals: they find more by claiming more.
    """
    fair = [row for row in rows if row["search"] != CLAIM]
    best = max(fair, key=lambda row: _ends(row)[0])
    told = f"beaten by {best['search']} {best['seeds']}" if is_beaten(rows[0], best) else "kept"
    verdicts = [told, *("no error control" if row["search"] == CLAIM else "" for row in rows[1:])]
    return [row | {"verdict": verdict} for row, verdict in zip(rows, verdicts, strict=True)]


def is_beaten(row: dict[str, Cell], rival: dict[str, Cell]) -> bool:
    """Tell whether the interval of ``rival`` lies above that of ``row``."""
    return _ends(rival)[0] > _ends(row)[1]


def _ends(row: dict[str, Cell]) -> tuple[float, float]:
    low, high = str(row["99 % interval"]).split(" to ")
    return float(low), float(high)


def compete(
    contestant: Contestant,
    world: World,
    effects: Array,
    *,
    budget: float,
    num_families: int,
    generator: np.random.Generator,
) -> dict[str, Cell] | None:
    """Return the row of one search; None where it cannot keep to the budget."""
    design = fit_design(contestant, world, effects, budget=budget, generator=generator)
    if design is None:
        return None
    outcome = search(world, effects, design, num_families=num_families, generator=generator)
    claims = contestant.claims(outcome)
    is_false = (claims[:, 1:] != 0).any(axis=1)
    num_claims = int((claims != 0).sum())
    num_false = int((claims[:, 1:] != 0).sum() + (claims[:, 0] < 0).sum())
    return {
        "search": contestant.name,
        "seeds": design.seeds_text,
        "runs": float(outcome.num_runs.mean()),
        **rate_cells(count(claims[:, 0] > 0), name="found %"),
        "false %": 100 * count(is_false).value,
        "false share of claims %": 100 * num_false / num_claims if num_claims else None,
    }


def fit_design(
    contestant: Contestant,
    world: World,
    effects: Array,
    *,
    budget: float,
    generator: np.random.Generator,
) -> Design | None:
    """Return the cheapest form of a search that spends ``budget`` runs, up to 1 %, on average.

    None where the search without its growing part, or the step to the next seed, is too dear.
    """
    for num_seeds, cost in _costs(contestant, world, effects, generator=generator):
        if cost >= budget * (1 - _TOLERANCE):
            return contestant.with_seeds(num_seeds) if cost <= budget * _TOO_DEAR else None
    return None


def _costs(
    contestant: Contestant, world: World, effects: Array, *, generator: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """Yield numbers of seeds in the growing part with the mean number of runs of a pilot."""

    def pilot(design: Design) -> Outcome:
        return search(world, effects, design, num_families=_PILOT_FAMILIES, generator=generator)

    if contestant.is_claim:
        # every seed costs the same again, but for the few arms that more seeds let pass
        cost = float(pilot(contestant.with_seeds(1)).num_runs.mean())
        yield from ((num_seeds, num_seeds * cost) for num_seeds in range(1, _MAX_SEEDS))
        return
    before = pilot(contestant.with_seeds(0))
    num_kept = before.kept.sum(axis=1)
    confirmed = np.where(num_kept > 0, num_kept + 1, 0).mean()
    for num_seeds in range(MIN_SEEDS, _MAX_SEEDS):
        yield num_seeds, float(before.num_runs.mean() + num_seeds * confirmed)
