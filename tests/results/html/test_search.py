from pathlib import Path

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.figures.flow import Lane, Slot, render_flow, slot_place
from fseed.results.html.sections.search import lanes_of, render_searches, slots_of
from fseed.results.staged_files import DECISIONS_FILE, PLAN_FILE
from tests.results.html.tree import parse


def test_slots_are_the_points_of_decision(staged: Collection) -> None:
    plan = staged.sweeps[0].plan
    assert plan is not None
    assert slots_of(plan) == [
        *(Slot("quick", 0, 3), Slot("quick", 1, 5), Slot("medium", 0, 5), Slot("confirm", 0, 5))
    ]


def test_every_registered_arm_has_a_lane_that_ends_where_it_stopped(staged: Collection) -> None:
    sweep = staged.sweeps[0]
    assert sweep.plan is not None
    lanes = lanes_of(sweep.plan, sweep.decisions)
    assert [(lane.arm, lane.is_beneath) for lane in lanes] == [
        ("scalar_l6", False),
        ("scalar_l6+shuffled_state", True),
        ("scalar_l8", False),
        ("scalar_l10", False),
    ]
    stops = {lane.arm: [(stop.slot, stop.state) for stop in lane.stops] for lane in lanes}
    assert stops["scalar_l6"] == [(0, "continues"), (1, "passed"), (2, "passed")]
    assert stops["scalar_l8"] == [(0, "continues"), (1, "passed"), (2, "dropped")]
    assert stops["scalar_l10"] == [(0, "dropped")]
    assert lanes[3].end.startswith("dropped at quick after 3 seeds: the interval ends below")
    assert lanes[1].end == "runs beside its arm"


def test_marks_stand_at_their_slots(staged: Collection) -> None:
    sweep = staged.sweeps[0]
    assert sweep.plan is not None
    slots, lanes = slots_of(sweep.plan), lanes_of(sweep.plan, sweep.decisions)
    figure = parse(render_flow(slots, lanes, caption="flow")).one("figure")
    _, *rows = figure.find("div", "forest-row")
    for lane, row in zip(lanes, rows, strict=True):
        marks = row.find("path", "stop")
        assert [node.classes[1] for node in marks] == [stop.state for stop in lane.stops]
        places = [node.number("x") for node in row.find("svg") if "x" in node.attributes]
        assert places == pytest.approx([slot_place(stop.slot, 4) for stop in lane.stops])
        line = row.find("line", "lane")
        assert [node.number("x2") for node in line] == places[-1:]
        assert lane.end in row.text


def test_slots_share_the_width() -> None:
    assert [slot_place(index, 4) for index in range(4)] == [12.5, 37.5, 62.5, 87.5]


def test_an_arm_without_a_decision_has_no_line() -> None:
    lane = Lane("a", "", "no decision yet", ())
    figure = parse(render_flow([Slot("quick", 0, 3)], [lane], caption="c"))
    assert figure.find("line", "lane") == figure.find("path") == []
    assert "no decision yet" in figure.text
    assert render_flow([Slot("quick", 0, 3)], [], caption="c") == ""


def test_all_decisions_stand_with_their_numbers(staged: Collection) -> None:
    section = parse(render_searches(staged)).one("section", "search")
    rows = section.one("table").one("tbody").find("tr")
    assert len(rows) == 7
    cells = [node.text for node in rows[2].find("td")]
    assert cells[:7] == [*("3", "quick", "0", "scalar_l10", "dropped", "−2.00", "[−4.00, +0.20]")]
    assert cells[-1] == "below_wanted_gain: the interval ends below the wanted gain"
    assert "wanted_gain 0.50 pp; significance 0.05" in section.text
    assert "3 arms, 1 control" in section.text


def test_the_threshold_rule_says_what_it_is(staged_copy: Path) -> None:
    path = staged_copy / "search" / PLAN_FILE
    path.write_text(path.read_text().replace('"race"', '"threshold"'))
    assert "keeps nearly half of the arms that do nothing" in render_searches(
        collect_runs([staged_copy])
    )


def test_decisions_that_cannot_be_read_are_named(staged_copy: Path) -> None:
    path = staged_copy / "search" / DECISIONS_FILE
    path.write_text(path.read_text() + "nonsense\n")
    section = parse(render_searches(collect_runs([staged_copy]))).one("section", "search")
    assert f"{path}:8" in section.one("p", "problem").text


def test_without_a_plan_there_is_no_search(report: Collection) -> None:
    assert render_searches(report) == ""
