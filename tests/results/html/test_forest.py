import pytest

from fseed.results.collection import Collection
from fseed.results.html.figures.forest import ForestRow, forest_scale, render_forest
from fseed.results.html.view import build_tasks
from fseed.results.measurement import OVER_ITEMS
from tests.results.html.tree import Node, axis_of, parse


@pytest.fixture(scope="module")
def rows(report: Collection) -> list[ForestRow]:
    hotpot, _ = build_tasks(report)
    return hotpot.tables[0].rows


def drawn_rows(rows: list[ForestRow]) -> tuple[list[Node], tuple[float, float]]:
    figure = parse(render_forest(rows, caption="differences")).one("figure")
    assert figure.one("figcaption").text == "differences"
    *body, axis = figure.find("div", "forest-row")
    return body, axis_of(axis.find("text", "tick"), "x")


def test_marks_stand_where_their_numbers_are(rows: list[ForestRow]) -> None:
    body, (slope, offset) = drawn_rows(rows)

    def value(node: Node, name: str) -> float:
        return slope * node.number(name) + offset

    assert len(body) == len(rows)
    for row, node in zip(rows, body, strict=True):
        one = row.comparison
        assert node.one("span", "arm-name").text == one.arm
        if one.difference is None:
            continue
        assert value(node.one("circle"), "cx") == pytest.approx(100 * one.difference, abs=0.02)
        bar = node.one("line", "interval")
        ends = [100 * end for end in (one.interval_low, one.interval_high) if end is not None]
        assert [value(bar, "x1"), value(bar, "x2")] == pytest.approx(ends, abs=0.02)
        seeds = [value(mark, "x1") for mark in node.find("line", "seed")]
        told = [100 * difference for _, difference in row.seed_differences]
        assert seeds == pytest.approx(told, abs=0.02)
        assert sum(told) / len(told) == pytest.approx(100 * one.difference)
        assert value(node.one("line", "zero"), "x1") == pytest.approx(0, abs=0.02)


def test_every_registered_arm_has_a_row_also_without_a_number(rows: list[ForestRow]) -> None:
    body, _ = drawn_rows(rows)
    failed = next(node for node in body if node.one("span", "arm-name").text == "raw_l6")
    assert "not measured" in failed.text
    assert failed.one("span", "badge").text == "failed"
    assert failed.find("circle") == failed.find("line", "interval") == []


def test_controls_stand_beneath_their_arm_and_say_what_they_are(rows: list[ForestRow]) -> None:
    body, _ = drawn_rows(rows)
    names = [node.one("span", "arm-name").text for node in body]
    place = names.index("scalar_l6+shuffled_state")
    assert names[place - 1] == "scalar_l6"
    assert "beneath" in body[place].classes
    assert "control: shuffled_state" in body[place].text


def test_the_fill_of_a_dot_follows_the_verdict(rows: list[ForestRow]) -> None:
    body, _ = drawn_rows(rows)
    for row, node in zip(rows, body, strict=True):
        dots = node.find("circle")
        tones = {"helps": ["mean", "up"], "hurts": ["mean", "down"]}
        for dot in dots:
            assert dot.classes == tones.get(row.comparison.verdict, ["mean"])
    assert {row.comparison.verdict for row in rows} >= {"helps", "hurts", "inconclusive", "failed"}


def test_an_interval_over_examples_is_dashed(report: Collection) -> None:
    _, kvsort = build_tasks(report)
    (row,) = kvsort.tables[0].rows
    assert row.comparison.interval_kind == OVER_ITEMS
    (node,), _ = drawn_rows([row])
    assert "items" in node.one("line", "interval").classes
    assert "*" in node.one("span", "effect").text


def test_without_a_number_there_is_no_axis_and_nothing_is_drawn(rows: list[ForestRow]) -> None:
    failed = [row for row in rows if row.comparison.difference is None]
    assert forest_scale(failed) is None
    figure = parse(render_forest(failed, caption="none"))
    assert figure.find("line") == figure.find("circle") == figure.find("text") == []
    assert figure.one("span", "arm-name").text == "raw_l6"
    assert render_forest([], caption="none") == ""
