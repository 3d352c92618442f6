"""How the difference depends on the options: first layer by gate logit, and strength."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fseed.results.comparison import Comparison
from fseed.results.html.figures.heatmap import Cell, render_map
from fseed.results.html.figures.scatter import Dose, render_doses
from fseed.results.html.history import is_number
from fseed.results.html.markup import Html, element, join
from fseed.results.html.view import TableView
from fseed.results.html.words import pp, verdict_word
from fseed.results.pairs import Arm

_FAMILY = ("fs.mode", "fs_variant.", "schedule.", "alpha.lr", "control.")
_MIN_CELLS = 2


def render_maps(table: TableView) -> Html:
    """Return a map of first layer by gate logit for every family of arms with two cells or more.

    A family shares all Future-Seed options but these two.
    """
    families: dict[str, dict[tuple[Any, Any], Comparison]] = defaultdict(dict)
    for row, arm in _arms(table):
        settings = arm.runs[0].settings
        place = settings.get("lstart"), settings.get("alpha.init")
        if None not in place:
            families[family_of(settings)][place] = row
    maps = [_map(cells) for cells in families.values() if len(cells) >= _MIN_CELLS]
    if not maps:
        return Html("")
    return element("section", element("h4", "First layer and gate logit"), *maps)


def family_of(settings: Mapping[str, Any]) -> str:
    """Return the Future-Seed options apart from ``lstart`` and ``alpha.init``, as text."""
    kept = {key: value for key, value in settings.items() if key.startswith(_FAMILY)}
    return json.dumps(kept, sort_keys=True, default=str)


def render_dose_response(table: TableView) -> Html:
    """Return strength against difference; nothing unless two arms differ in strength."""
    doses = doses_of(table)
    if len({dose.strength for dose in doses}) < _MIN_CELLS:
        return Html("")
    told = "Strength of the carried state against the difference to plain training"
    drawing = render_doses(doses, x_title="sum of |gate| over seeded layers", description=told)
    names = [element("li", _tell(dose)) for dose in doses]
    caption = element(
        "figcaption",
        "Strength: sum of |gate| over the seeded layers after the last step, mean over seeds, as "
        "recorded. Bars: 95 % interval. The arms may differ in more than their strength.",
    )
    figure = element(
        "figure", caption, element("div", drawing, element("ol", *names), class_="dose")
    )
    return element("section", element("h4", "Dose and response"), figure)


def doses_of(table: TableView) -> list[Dose]:
    """Return the measured arms whose gates are recorded, the weakest first."""
    found = []
    for row, arm in _arms(table):
        strength = strength_of(arm)
        if strength is not None and row.difference is not None:
            ends = row.interval_low, row.interval_high
            found.append(Dose(row.arm, strength, row.difference, *ends))
    return sorted(found, key=lambda dose: (dose.strength, dose.arm))


def strength_of(arm: Arm) -> float | None:
    """Return the sum over layers of the absolute gate after the last step, mean over the pairs.

    None where a paired run does not record its gates.
    """
    values = []
    for run, _ in arm.pairs:
        told = (run.record.result or {}).get("gates")
        last = told.get("last") if isinstance(told, Mapping) else None
        if not isinstance(last, list) or not last:
            return None
        if not all(map(is_number, last)):
            return None
        values.append(sum(map(abs, last)))
    return sum(values) / len(values) if values else None


def _arms(table: TableView) -> list[tuple[Comparison, Arm]]:
    rows = [row.comparison for row in table.rows if row.comparison.control == "none"]
    return [(row, table.arms[row.arm]) for row in rows if row.arm in table.arms]


def _map(found: Mapping[tuple[Any, Any], Comparison]) -> Html:
    cells = {
        (str(init), str(start)): Cell(row.difference, verdict_word(row.verdict))
        for (start, init), row in found.items()
    }
    inits = sorted({init for _, init in found}, key=_as_number, reverse=True)
    starts = sorted({start for start, _ in found}, key=_as_number)
    names = ", ".join(sorted(row.arm for row in found.values()))
    return render_map(
        cells,
        rows=[str(init) for init in inits],
        columns=[str(start) for start in starts],
        row_title="alpha.init",
        column_title="lstart",
        caption=f"Difference in pp by first seeded layer and gate logit at the start: {names}",
    )


def _as_number(value: Any) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (math.inf, str(value))


def _tell(dose: Dose) -> Html:
    ends = ""
    if dose.low is not None and dose.high is not None:
        ends = f" [{pp(dose.low)}, {pp(dose.high)}]"
    name = element("span", dose.arm, class_="arm-name")
    return join([name, f" {dose.strength:.3f}: {pp(dose.difference)} pp{ends}"])
