"""How the arms of a table learnt: scores, loss and gates against tokens, arm beside baseline."""

from collections.abc import Callable, Sequence

from fseed.results.comparison import Comparison
from fseed.results.html.figures.lines import Line, render_lines
from fseed.results.html.history import Evaluation, GateReading, History, moved
from fseed.results.html.markup import Html, element, join
from fseed.results.html.view import Histories, TableView
from fseed.results.html.words import count
from fseed.results.pairs import Arm
from fseed.results.runs import Run

MAX_ARMS = 12
MAX_GATE_POINTS = 60
LEAST_GATE_SPAN = 0.01
_SHOWN_AT_ONCE = 3

Points = tuple[tuple[float, float], ...]


def render_curves(table: TableView, histories: Histories, *, is_open: bool) -> Html:
    """Return a figure per arm that has curves; nothing without any.

    ``is_open``: the first ones are open; otherwise all are folded away.
    """
    rows = [row.comparison for row in table.rows if row.comparison.arm in table.arms]
    chosen = rows[: min(MAX_ARMS, histories.room)]
    figures = [arm_figure(row, table.arms[row.arm], histories) for row in chosen]
    drawn = [figure for figure in figures if figure]
    histories.num_arms += len(drawn)
    left_out = _left_out(rows, num_chosen=len(chosen))
    if not drawn:
        return left_out or Html("")
    num_shown = _SHOWN_AT_ONCE if is_open else 0
    more = drawn[num_shown:]
    summary = element("summary", f"Curves of {count(len(more), 'more row' if is_open else 'row')}")
    shown = [_legend(), *drawn[:num_shown]] if num_shown else []
    hidden = more if shown else [_legend(), *more]
    rest = element("details", summary, *hidden) if more else None
    parts = [element("h4", "Learning curves and gates"), *shown, rest]
    parts.append(left_out)
    return element("section", *parts, class_="curves")


def arm_figure(row: Comparison, arm: Arm, histories: Histories) -> Html:
    """Return metric, loss and gates of one arm against its baselines; nothing without curves."""
    arm_runs = [(run.seed, histories.of(run)) for run in arm.runs]
    base_runs = [(base.seed, histories.of(base)) for _, base in arm.pairs]
    metric = row.metric or _metric_of(arm.runs)
    panels = []
    if metric is not None:
        lines = _both(arm_runs, base_runs, lambda one: _scaled(one.values.get(metric)), row.arm)
        level = row.constant_value
        reference = (100 * level, "constant answer") if level is not None else None
        told = f"{metric} of {row.arm} and no_fs against tokens"
        panels.append(
            render_lines(lines, title=f"{metric}, %", description=told, reference=reference)
        )
    lines = _both(arm_runs, base_runs, lambda one: one.values.get("loss"), row.arm)
    told = f"validation loss of {row.arm} and no_fs against tokens"
    panels.append(render_lines(lines, title="loss, nats per answer token", description=told))
    panels.append(gate_panel(row.arm, arm.runs, [history for _, history in arm_runs]))
    if not any(panels):
        return Html("")
    caption = element("figcaption", element("span", row.arm, class_="arm-name"))
    note = gate_note([history.gates for _, history in arm_runs])
    panels += [element("p", note, class_="panel-note")] if note is not None else []
    return element("figure", caption, element("div", *panels, class_="panels"))


def gate_panel(name: str, runs: Sequence[Run], histories: Sequence[History]) -> Html:
    """Return the gates by layer, mean over the seeds; nothing when no gate moved."""
    readings = [history.gates for history in histories if history.gates]
    if not any(map(moved, readings)):
        return Html("")
    size = min(len(one[0].gates) for one in readings)
    labels = layer_labels(runs[0], size)
    lines = [
        Line(
            f"{name}, {label}, mean over {count(len(readings), 'seed')}",
            mean_points([_gate_points(one, index) for one in readings]),
            "gate mean",
            label=label,
            dash=index,
        )
        for index, label in enumerate(labels)
    ]
    told = f"gates of {name} against tokens"
    return render_lines(
        lines, title="gate, mean over seeds", description=told, least_span=LEAST_GATE_SPAN
    )


def gate_note(readings: Sequence[Sequence[GateReading]]) -> str | None:
    """Say how far the gates moved, or where they stayed; None where none are recorded."""
    known = [one for one in readings if one]
    if not known:
        return None
    if any(map(moved, known)):
        return f"Largest move of a gate from its start: {largest_move(known):.4f}."
    values = sorted({f"{gate:.3f}" for one in known for gate in one[0].gates})
    layers = count(len(known[0][0].gates), "layer")
    return f"The gates did not move: {', '.join(values[:6])} over {layers}."


def largest_move(readings: Sequence[Sequence[GateReading]]) -> float:
    """Return the largest distance of any gate of any seed from where it started."""
    return max(
        abs(gate - start)
        for one in readings
        for reading in one
        for gate, start in zip(reading.gates, one[0].gates, strict=True)
    )


def layer_labels(run: Run, size: int) -> list[str]:
    """Name the seeded layers, counted from 0; by place when the first one is not recorded."""
    start = run.settings.get("lstart")
    if isinstance(start, int):
        return [f"layer {max(1, start) + index}" for index in range(size)]
    return [f"gate {index + 1}" for index in range(size)]


def mean_points(lines: Sequence[Points]) -> Points:
    """Average lines point by point as far as all of them reach; tokens are averaged as well."""
    pairs = zip(*lines, strict=False)
    return tuple(
        (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
        for points in pairs
    )


def _both(
    arm_runs: Sequence[tuple[int | None, History]],
    base_runs: Sequence[tuple[int | None, History]],
    value: Callable[[Evaluation], float | None],
    name: str,
) -> list[Line]:
    return [*_lines(base_runs, value, "no_fs", "base"), *_lines(arm_runs, value, name, "arm")]


def _lines(
    runs: Sequence[tuple[int | None, History]],
    value: Callable[[Evaluation], float | None],
    name: str,
    kind: str,
) -> list[Line]:
    """Return a thin line per seed, and their mean over the steps that every seed has."""
    found = [(seed, _by_step(history, value)) for seed, history in runs]
    found = [(seed, points) for seed, points in found if points]
    lines = [
        Line(f"{name}, seed {seed}", tuple(points[step] for step in sorted(points)), kind)
        for seed, points in found
    ]
    if len(found) < 2:
        return [Line(line.name, line.points, f"{kind} mean") for line in lines]
    shared = sorted(set.intersection(*(set(points) for _, points in found)))
    mean = mean_points([tuple(points[step] for step in shared) for _, points in found])
    return [*lines, Line(f"{name}, mean of {len(found)} seeds", mean, f"{kind} mean")]


def _by_step(
    history: History, value: Callable[[Evaluation], float | None]
) -> dict[int, tuple[float, float]]:
    return {
        one.step: (float(one.tokens), told)
        for one in history.evaluations
        if one.tokens is not None and (told := value(one)) is not None
    }


def _gate_points(readings: Sequence[GateReading], index: int) -> Points:
    known = [one for one in readings if one.tokens is not None]
    stride = max(1, -(-len(known) // MAX_GATE_POINTS))
    kept = known[::stride]
    if known and kept[-1] is not known[-1]:
        kept.append(known[-1])
    return tuple((float(one.tokens or 0), one.gates[index]) for one in kept)


def _scaled(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _metric_of(runs: Sequence[Run]) -> str | None:
    return next((run.primary_metric for run in runs if run.primary_metric is not None), None)


def _legend() -> Html:
    entries = [
        element("span", element("i", class_="key arm"), "arm"),
        element("span", element("i", class_="key base"), "no_fs, the same seeds"),
        element("span", element("i", class_="key constant"), "best constant answer"),
        element("span", "thin: one seed; thick: mean over seeds"),
    ]
    return element("p", join(entries, " "), class_="legend small")


def _left_out(rows: Sequence[Comparison], *, num_chosen: int) -> Html | None:
    """Say which curves a report of bounded size does not hold."""
    if num_chosen == len(rows):
        return None
    which = f"Curves of the first {num_chosen} of" if num_chosen else "No curves of"
    text = f"{which} {count(len(rows), 'row')} here; metrics.jsonl of each run holds the others."
    return element("p", text, class_="soft small")
