from itertools import pairwise
from pathlib import Path

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.figures.lines import Line, render_lines
from fseed.results.html.history import GateReading, History, read_history
from fseed.results.html.sections.curves import (
    MAX_ARMS,
    arm_figure,
    gate_note,
    gate_panel,
    layer_labels,
    mean_points,
    render_curves,
)
from fseed.results.html.view import Histories, TableView, build_tasks
from fseed.results.runs import Run
from tests.results.html.builders import ALL_ARMS, write_task
from tests.results.html.tree import Node, axis_of, parse


@pytest.fixture(scope="module")
def table(report: Collection) -> TableView:
    hotpot, _ = build_tasks(report)
    return hotpot.tables[0]


def figure_of(table: TableView, arm: str) -> Node:
    row = next(row.comparison for row in table.rows if row.comparison.arm == arm)
    return parse(arm_figure(row, table.arms[arm], Histories())).one("figure")


def values_of(panel: Node, line: Node) -> list[tuple[float, float]]:
    """Read the points of a line back through the ticks of both axes."""
    x_slope, x_offset = axis_of(panel.find("text", "tick", "x"), "x")
    y_slope, y_offset = axis_of(panel.find("text", "tick", "y"), "y")
    pairs = [pair.split(",") for pair in line.attributes["points"].split()]
    # the text of a tick stands 4 below its line
    return [(x_slope * float(x) + x_offset, y_slope * (float(y) + 4) + y_offset) for x, y in pairs]


def test_lines_are_drawn_through_their_data() -> None:
    points = ((0.0, 10.0), (1000.0, 30.0), (4000.0, 20.0))
    panel = parse(
        render_lines([Line("a", points, "arm mean")], title="score, %", description="told")
    ).one("svg")
    drawn = values_of(panel, panel.one("polyline"))
    assert [x for x, _ in drawn] == pytest.approx([0, 1000, 4000], abs=10)
    assert [y for _, y in drawn] == pytest.approx([10, 30, 20], abs=0.1)
    assert panel.attributes["role"] == "img"
    assert panel.find("title")[0].text == "told"
    titles = [node.text for node in panel.find("text", "axis-title")]
    assert titles == ["score, %", "tokens read"]


def test_a_single_point_is_a_dot_and_no_point_is_nothing() -> None:
    dot = parse(render_lines([Line("a", ((5.0, 1.0),), "arm")], title="y", description="d"))
    assert len(dot.find("circle")) == 1
    assert dot.find("polyline") == []
    assert render_lines([Line("a", (), "arm")], title="y", description="d") == ""
    assert render_lines([], title="y", description="d") == ""


def test_labels_at_the_ends_do_not_overlap() -> None:
    lines = [
        Line(f"l{i}", ((0.0, 1.0), (10.0, 1.0 + i / 1000)), "gate", label=f"layer {i}", dash=i)
        for i in range(11)
    ]
    panel = parse(render_lines(lines, title="gate", description="d")).one("svg")
    places = sorted(node.number("y") for node in panel.find("text", "note"))
    gaps = [below - above for above, below in pairwise(places)]
    assert min(gaps) >= 11.9
    assert 0 < places[0] < places[-1] < 220


def test_arm_and_baseline_are_drawn_per_seed_and_as_means(table: TableView) -> None:
    figure = figure_of(table, "scalar_l6")
    metric = figure.find("svg", "panel")[0]
    thin = [node for node in metric.find("polyline") if "mean" not in node.classes]
    arm, base = metric.one("polyline", "arm", "mean"), metric.one("polyline", "base", "mean")
    assert len(thin) == 10
    row = next(row.comparison for row in table.rows if row.comparison.arm == "scalar_l6")
    assert row.arm_value is not None
    assert row.baseline_value is not None
    assert values_of(metric, arm)[-1][1] == pytest.approx(100 * row.arm_value, abs=0.3)
    assert values_of(metric, base)[-1][1] == pytest.approx(100 * row.baseline_value, abs=0.3)
    assert metric.find("line", "reference") != []
    assert "constant answer" in metric.text


def test_losses_are_in_nats(table: TableView) -> None:
    loss = figure_of(table, "scalar_l6").find("svg", "panel")[1]
    assert loss.find("text", "axis-title")[0].text == "loss, nats per answer token"
    runs = [run for run, _ in table.arms["scalar_l6"].pairs]
    mean = sum(run.last["loss"] for run in runs) / len(runs)
    drawn = values_of(loss, loss.one("polyline", "arm", "mean"))
    assert drawn[-1][1] == pytest.approx(mean, abs=0.03)
    assert drawn[0][1] == pytest.approx(5.5, abs=0.03)


def test_trained_gates_have_a_line_per_layer(table: TableView) -> None:
    arm = table.arms["scalar_l6_trainable"]
    histories = [read_history(run) for run in arm.runs]
    panel = parse(gate_panel("x", arm.runs, histories)).one("svg")
    lines = panel.find("polyline", "gate")
    assert [node.text for node in panel.find("text", "note")][::-1] == [
        f"layer {layer}" for layer in range(6, 12)
    ]
    for index, line in enumerate(lines):
        last = [history.gates[-1].gates[index] for history in histories]
        drawn = values_of(panel, line)
        assert drawn[-1][1] == pytest.approx(sum(last) / len(last), abs=0.01)
        assert drawn[0][1] == pytest.approx(histories[0].gates[0].gates[index], abs=0.01)
    readings = [history.gates for history in histories]
    pairs = zip(readings[0][0].gates, readings[0][-1].gates, strict=True)
    largest = max(abs(end - start) for start, end in pairs)
    assert gate_note(readings) == f"Largest move of a gate from its start: {largest:.4f}."


def test_frozen_gates_are_told_and_not_drawn(table: TableView) -> None:
    figure = figure_of(table, "scalar_l8")
    assert len(figure.find("svg", "panel")) == 2
    assert "The gates did not move: 0.119 over 4 layers." in figure.text
    assert gate_note([[]]) is None


def test_gates_that_hardly_move_do_not_fill_the_panel(table: TableView) -> None:
    readings = [GateReading(step, step, (0.1 + step * 1e-6,)) for step in range(11)]
    panel = gate_panel("x", table.arms["scalar_l8"].runs, [History([], readings)])
    ticks = parse(panel).one("svg").find("text", "tick", "y")
    assert ticks[-1].number("data-value") - ticks[0].number("data-value") > 0.005
    assert gate_note([readings]) == "Largest move of a gate from its start: 0.0000."


def test_a_failed_run_keeps_the_curve_it_had(table: TableView) -> None:
    loss = figure_of(table, "raw_l6").one("svg", "panel")
    assert loss.find("text", "axis-title")[0].text == "loss, nats per answer token"
    assert len(values_of(loss, loss.one("polyline", "arm"))) == 2


def test_a_mean_stands_only_where_every_seed_was_scored(table: TableView) -> None:
    def read(run: Run) -> History:
        history = read_history(run)
        is_short = run.seed == 30 and not run.is_baseline
        return History(history.evaluations[: 3 if is_short else None], [])

    row = next(row.comparison for row in table.rows if row.comparison.arm == "scalar_l8")
    figure = parse(arm_figure(row, table.arms["scalar_l8"], Histories(read)))
    panel = figure.find("svg", "panel")[0]
    points = {
        kind: panel.one("polyline", kind, "mean").attributes["points"] for kind in ("arm", "base")
    }
    assert [len(points[kind].split()) for kind in ("arm", "base")] == [3, 5]


def test_means_end_where_a_seed_ends() -> None:
    long, short = ((0.0, 0.0), (2.0, 4.0), (4.0, 8.0)), ((0.0, 2.0), (4.0, 0.0))
    assert mean_points([long, short]) == ((0.0, 1.0), (3.0, 2.0))
    assert mean_points([]) == ()


def test_layers_are_counted_from_lstart(table: TableView) -> None:
    run = table.arms["scalar_l8"].runs[0]
    assert layer_labels(run, 2) == ["layer 8", "layer 9"]
    unknown = Run(run.record, run.status, run.reason, {})
    assert layer_labels(unknown, 2) == ["gate 1", "gate 2"]
    first = Run(run.record, run.status, run.reason, {"lstart": 0})
    assert layer_labels(first, 1) == ["layer 1"]


def test_long_gate_lines_are_thinned_to_their_ends(table: TableView) -> None:
    readings = [GateReading(step, step, (step / 1000,)) for step in range(1001)]
    panel = gate_panel("x", table.arms["scalar_l8"].runs, [History([], readings)])
    drawn = values_of(parse(panel).one("svg"), parse(panel).one("polyline"))
    assert len(drawn) <= 62
    assert drawn[-1][1] == pytest.approx(1.0, abs=0.01)


def test_no_more_curves_than_the_limit_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    arms = {f"arm{i:02d}": ({**ALL_ARMS["scalar_l8"][0], "alpha.init": -i}, 0) for i in range(14)}
    write_task(tmp_path, arms=arms, seeds=[0], task="hotpot", num_examples=5)
    (task,) = build_tasks(collect_runs([tmp_path]))
    section = parse(render_curves(task.tables[0], Histories(), is_open=True))
    assert len(section.find("figure")) == MAX_ARMS
    assert f"Curves of the first {MAX_ARMS} of 14 rows here" in section.text
    assert "9 more rows" in section.one("summary").text
    histories = Histories(max_arms=5)
    section = parse(render_curves(task.tables[0], histories, is_open=True))
    assert len(section.find("figure")) == 5
    assert histories.room == 0
    told = render_curves(task.tables[0], histories, is_open=True)
    assert parse(told).one("p").text.startswith("No curves of 14 rows here")


def test_each_file_is_read_once(table: TableView) -> None:
    read: list[Run] = []

    def spy(run: Run) -> History:
        read.append(run)
        return History([], [])

    histories = Histories(spy)
    assert render_curves(table, histories, is_open=True) == ""
    assert len(read) == len({str(run.record.path) for run in read})
