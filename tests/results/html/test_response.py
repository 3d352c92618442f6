from typing import Any

import pytest

from fseed.results.collection import Collection
from fseed.results.html.figures.heatmap import Cell, render_map, shade
from fseed.results.html.figures.scatter import Dose, render_doses
from fseed.results.html.sections.response import (
    doses_of,
    family_of,
    render_dose_response,
    render_maps,
    strength_of,
)
from fseed.results.html.view import TableView, build_tasks
from fseed.results.html.words import pp
from fseed.results.pairs import Arm
from tests.results.html.builders import gates_of, spec_of
from tests.results.html.tree import Node, axis_of, parse


@pytest.fixture(scope="module")
def tables(report: Collection) -> dict[str, TableView]:
    return {task.task: task.tables[0] for task in build_tasks(report)}


def cells_of(table: Node) -> dict[tuple[str, str], Node]:
    columns = [node.text for node in table.one("thead").find("th")][1:]
    found = {}
    for line in table.one("tbody").find("tr"):
        row = line.one("th").text
        found |= {(row, name): cell for name, cell in zip(columns, line.find("td"), strict=True)}
    return found


def test_the_map_holds_every_cell_with_its_number(tables: dict[str, TableView]) -> None:
    section = parse(render_maps(tables["hotpot"]))
    cells = cells_of(section.one("table", "map"))
    differences = {row.comparison.arm: row.comparison for row in tables["hotpot"].rows}
    arms = {
        ("-2.0", "6"): "scalar_l6",
        ("-2.0", "8"): "scalar_l8",
        ("-2.0", "10"): "scalar_l10",
        ("-1.0", "6"): "scalar_l6_strong",
        ("-1.0", "10"): "scalar_l10_strong",
    }
    for place, arm in arms.items():
        assert cells[place].one("strong").text == pp(differences[arm].difference)
    assert cells["-1.0", "8"].text == "not run"
    assert len(cells) == 6
    heads = section.find("th")
    assert {node.attributes["scope"] for node in heads} == {"col", "row"}


def test_colour_follows_sign_and_size_and_never_stands_alone() -> None:
    assert shade(0.1, largest=0.1) == "up5"
    assert shade(-0.001, largest=0.1) == "down1"
    assert shade(0.0, largest=0.1) == shade(0.0, largest=0.0) == ""
    cells = {("a", "x"): Cell(-0.02, "hurts"), ("a", "y"): Cell(None, "failed")}
    told: dict[str, Any] = {"row_title": "r", "column_title": "c", "caption": "m"}
    table = parse(render_map(cells, rows=["a"], columns=["x", "y"], **told))
    found = cells_of(table.one("table"))
    assert found["a", "x"].text == "−2.00hurts"
    assert found["a", "x"].classes == ["down5"]
    assert (found["a", "y"].text, found["a", "y"].classes) == ("failed", ["empty"])


def test_one_arm_alone_has_no_map_and_no_dose_response(tables: dict[str, TableView]) -> None:
    assert render_maps(tables["kvsort"]) == ""
    assert render_dose_response(tables["kvsort"]) == ""


def test_a_family_shares_everything_but_layer_and_logit() -> None:
    base = {"fs_variant.gate": "scalar", "lstart": 6, "alpha.init": -2.0, "alpha.lr": 0.0}
    assert family_of(base) == family_of({**base, "lstart": 10, "alpha.init": -1.0, "seed": 3})
    assert family_of(base) != family_of({**base, "alpha.lr": 1e-3})
    assert family_of(base) != family_of({**base, "fs_variant.gate": "head"})


def test_doses_are_the_recorded_gates(tables: dict[str, TableView]) -> None:
    doses = {dose.arm: dose for dose in doses_of(tables["hotpot"])}
    assert "scalar_l6+shuffled_state" not in doses
    assert "raw_l6" not in doses
    gates = gates_of(spec_of("scalar_l8", 0, changes={"lstart": 8}), step=40)
    assert doses["scalar_l8"].strength == pytest.approx(sum(gates))
    rows = {row.comparison.arm: row.comparison for row in tables["hotpot"].rows}
    for arm, dose in doses.items():
        assert dose.difference == rows[arm].difference
    strengths = [dose.strength for dose in doses_of(tables["hotpot"])]
    assert strengths == sorted(strengths)


@pytest.mark.parametrize("last", [None, [], [0.1, None], [float("nan")], "0.1"])
def test_no_dose_without_recorded_gates(tables: dict[str, TableView], last: Any) -> None:
    arm = tables["hotpot"].arms["scalar_l8"]
    run, base = arm.pairs[0]
    assert run.record.result is not None
    before = run.record.result["gates"]
    run.record.result["gates"] = {"last": last}
    try:
        assert strength_of(Arm([run], [(run, base)], [], "x", "")) is None
    finally:
        run.record.result["gates"] = before


def test_points_stand_where_their_numbers_are() -> None:
    doses = [
        Dose("a", 0.2, -0.01, -0.03, 0.01),
        Dose("b", 0.7, 0.04, 0.02, 0.06),
        Dose("c", 0.9, 0.0, None, None),
    ]
    panel = parse(render_doses(doses, x_title="strength", description="d")).one("svg")
    x_slope, x_offset = axis_of(panel.find("text", "tick", "x"), "x")
    y_slope, y_offset = axis_of(panel.find("text", "tick", "y"), "y")
    points = panel.find("circle", "mean")
    for dose, node in zip(doses, points, strict=True):
        assert x_slope * node.number("cx") + x_offset == pytest.approx(dose.strength, abs=0.01)
        height = y_slope * (node.number("cy") + 4) + y_offset
        assert height == pytest.approx(100 * dose.difference, abs=0.05)
    bars = panel.find("line", "interval")
    assert len(bars) == 2
    ends = [y_slope * (bars[1].number(name) + 4) + y_offset for name in ("y1", "y2")]
    assert ends == pytest.approx([2, 6], abs=0.05)
    assert panel.find("line", "zero") != []
    assert render_doses([], x_title="s", description="d") == ""


def test_the_list_beside_the_points_names_them(tables: dict[str, TableView]) -> None:
    table = tables["hotpot"]
    section = parse(render_dose_response(table))
    items = [node.text for node in section.one("ol").find("li")]
    doses = doses_of(table)
    assert len(items) == len(doses) == len(section.find("circle", "mean"))
    for item, dose in zip(items, doses, strict=True):
        assert item.startswith(
            f"{dose.arm} {dose.strength:.3f}: {pp(dose.difference)} pp [{pp(dose.low)}, "
        )
