"""The report in Markdown: times with errors, and the bars, passed or missed by how much."""

from collections.abc import Iterable, Sequence

from bench.rows import Row, select, value_of
from bench.shapes import BARS, ERRORS, FORWARD_SHARE, FUTURE_SEED, MEMORY_GIB

FLOOR = "streaming floor"
BACKENDS = {"triton": "fseed triton", "cuda": "fseed cuda"}
Line = tuple[str, ...]


def render_report(rows: Sequence[Row], *, machine: dict[str, str]) -> str:
    """Return the whole report."""
    parts = [
        "# WKV7 benchmark",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        "Median GPU time in milliseconds, (x the streaming floor); states in and out, gradients of "
        "both. A version without an error measured is left out.",
        render_floor(rows),
        "## Training: forward / forward + backward",
        render_times(rows),
        "## Prompt (forward without gradient) and decode",
        render_single(rows, ("prompt", "decode")),
        "## Relative errors against float64: y / final state / worst gradient",
        render_errors(rows),
        "## Bars",
        render_bars(rows),
        render_kernels(rows),
        render_missing(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_floor(rows: Sequence[Row]) -> str:
    """Return the measured bandwidth in one line."""
    rate = value_of(rows, implementation="copy", metric="bandwidth")
    return "" if rate is None else f"Copy on the device: {rate:.2f} TB/s."


def render_times(rows: Sequence[Row]) -> str:
    """Return forward / forward + backward of every version with a known error, and memory."""
    names, shapes = checked_versions(rows), shapes_of(rows, "forward_backward")
    floor = [time_cell(rows, FLOOR, shape) for shape in shapes]
    lines = [("streaming floor", *floor, "")]
    for name in names:
        if not select(rows, implementation=name, run="forward_backward", metric="time"):
            continue
        cells = [time_cell(rows, name, shape) for shape in shapes]
        lines.append((name, *cells, memory_cell(rows, name)))
    return markdown(("version", *shapes, f"GiB at {MEMORY_GIB[0]}"), lines)


def render_single(rows: Sequence[Row], runs: Sequence[str]) -> str:
    """Return one time per version and shape for passes that stand alone."""
    columns = [(run, shape) for run in runs for shape in shapes_of(rows, run)]
    lines = []
    for name in checked_versions(rows):
        values = [value_of(rows, implementation=name, run=r, shape=s) for r, s in columns]
        if any(value is not None for value in values):
            lines.append((name, *(number(value) for value in values)))
    return markdown(("version", *(f"{run} {shape}" for run, shape in columns)), lines)


def render_errors(rows: Sequence[Row]) -> str:
    """Return the errors per kind of data."""
    lines = []
    for name in checked_versions(rows):
        lines.append((name, *(error_cell(rows, name, kind) for kind in ERRORS)))
    return markdown(("version", *ERRORS), lines)


def render_bars(rows: Sequence[Row]) -> str:
    """Return every bar with the number and the verdict; a bar without its number is missing."""
    lines = [*time_bars(rows), *share_bars(rows), *memory_bars(rows)]
    lines += [*future_seed_bars(rows), *error_bars(rows)]
    return markdown(("bar", "shape or data", "measured", "at most", "verdict"), lines)


def time_bars(rows: Sequence[Row]) -> Iterable[Line]:
    """Yield the bars on forward + backward, and the best peer of this run beside them."""
    for shape, bar in BARS.items():
        ours = {key: both_passes(rows, name, shape) for key, name in BACKENDS.items()}
        known = [value for value in ours.values() if value is not None]
        fastest = min(known, default=None)
        yield judge("triton, ms", shape, ours["triton"], bar.triton)
        yield judge("fastest backend, ms", shape, fastest, bar.fastest)
        yield judge("aim, ms", shape, fastest, bar.aim)
        peers = [both_passes(rows, name, shape) for name in checked_versions(rows, group="peer")]
        best = min((value for value in peers if value is not None), default=None)
        faster = "" if best is None or fastest is None else f"{best / fastest:.2f}x ours"
        yield ("best peer, ms", shape, number(best), f"({bar.best_peer} before)", faster)


def share_bars(rows: Sequence[Row]) -> Iterable[Line]:
    """Yield forward alone as a part of forward + backward."""
    for shape in shapes_of(rows, "forward_backward"):
        for key, name in BACKENDS.items():
            forward = value_of(rows, implementation=name, run="forward", shape=shape)
            both = both_passes(rows, name, shape)
            share = None if forward is None or both is None else forward / both
            yield judge(f"forward share, {key}", shape, share, FORWARD_SHARE)


def memory_bars(rows: Sequence[Row]) -> Iterable[Line]:
    """Yield the extra memory of forward + backward."""
    shape, limit = MEMORY_GIB
    for key, name in BACKENDS.items():
        value = value_of(rows, implementation=name, metric="peak_memory", shape=shape)
        yield judge(f"extra memory, {key}, GiB", shape, value, limit)


def future_seed_bars(rows: Sequence[Row]) -> Iterable[Line]:
    """Yield what a carried state adds, as a part."""
    for shape, limit in FUTURE_SEED.items():
        for key, name in BACKENDS.items():
            times = [
                value_of(rows, implementation=name, run=run, shape=shape)
                for run in ("future_seed_off", "future_seed_on")
            ]
            off, on = times
            added = None if off is None or on is None else on / off - 1
            yield judge(f"Future-Seed adds, {key}", shape, added, limit)


def error_bars(rows: Sequence[Row]) -> Iterable[Line]:
    """Yield the worst error of each backend per kind of data."""
    for kind, limit in ERRORS.items():
        for key, name in BACKENDS.items():
            errors = errors_of(rows, name, kind)
            worst = max(errors.values(), key=nan_last) if errors else None
            yield judge(f"worst error, {key}", kind, worst, limit)


def judge(bar: str, what: str, value: float | None, limit: float) -> Line:
    """Return a line with its verdict; NaN and absence never pass."""
    if value is None:
        return (bar, what, "", number(limit), "not measured")
    if value <= limit:
        return (bar, what, number(value), number(limit), "pass")
    return (bar, what, number(value), number(limit), f"MISS, {value / limit - 1:+.1%}")


def render_kernels(rows: Sequence[Row]) -> str:
    """Return the kernels one by one, where they were profiled."""
    lines = []
    for row in rows:
        if row.timer != "profiler" or row.metric != "time" or row.value is None:
            continue
        wanted = {"implementation": row.implementation, "shape": row.shape, "run": row.run}
        rate = value_of(rows, metric="bandwidth", **wanted)
        lines.append((*wanted.values(), number(row.value), row.note, number(rate)))
    if not lines:
        return ""
    head = ("version", "shape", "kernel", "ms", "bytes", "TB/s")
    return "## Kernels, each in the profiler\n\n" + markdown(head, lines)


def render_missing(rows: Sequence[Row]) -> str:
    """Return what was skipped or failed, with the reason."""
    found = [row for row in rows if row.metric in ("skipped", "failed")]
    lines = [(row.implementation, row.shape, row.metric, row.note) for row in found]
    if not lines:
        return ""
    return "## Not measured\n\n" + markdown(("version", "shape", "what", "reason"), lines)


def checked_versions(rows: Sequence[Row], *, group: str | None = None) -> list[str]:
    """Return the versions with a measured error, in the order of the run."""
    names = dict.fromkeys(
        row.implementation
        for row in rows
        if row.metric == "error_y" and row.value is not None and group in (None, row.group)
    )
    return list(names)


def shapes_of(rows: Sequence[Row], run: str) -> list[str]:
    """Return the shapes that a pass was timed on."""
    return list(dict.fromkeys(row.shape for row in select(rows, run=run, metric="time")))


def both_passes(rows: Sequence[Row], name: str, shape: str) -> float | None:
    """Return forward + backward in milliseconds."""
    wanted = {"implementation": name, "run": "forward_backward", "metric": "time"}
    return value_of(rows, shape=shape, **wanted)


def time_cell(rows: Sequence[Row], name: str, shape: str) -> str:
    """Return forward / forward + backward (x floor)."""
    forward = value_of(rows, implementation=name, run="forward", metric="time", shape=shape)
    both, floor = both_passes(rows, name, shape), both_passes(rows, FLOOR, shape)
    if both is None:
        return ""
    times = "" if floor is None or name == FLOOR else f" ({both / floor:.1f}x)"
    return f"{number(forward)} / **{number(both)}**{times}"


def memory_cell(rows: Sequence[Row], name: str) -> str:
    """Return the peak memory at the shape of its bar."""
    return number(value_of(rows, implementation=name, metric="peak_memory", shape=MEMORY_GIB[0]))


def errors_of(rows: Sequence[Row], name: str, kind: str) -> dict[str, float]:
    """Return the errors of one version on one kind of data, by tensor."""
    found = select(rows, implementation=name, data=kind)
    return {
        row.metric.removeprefix("error_"): row.value
        for row in found
        if row.metric.startswith("error_") and row.value is not None
    }


def error_cell(rows: Sequence[Row], name: str, kind: str) -> str:
    """Return y / final state / worst gradient with its name."""
    errors = errors_of(rows, name, kind)
    gradients = {key: e for key, e in errors.items() if key not in ("y", "final_state")}
    cells = [f"{errors[key]:.1e}" for key in ("y", "final_state") if key in errors]
    if gradients:
        worst = max(gradients, key=lambda key: nan_last(gradients[key]))
        cells.append(f"{gradients[worst]:.1e} ({worst})")
    return " / ".join(cells)


def nan_last(value: float) -> float:
    """Order NaN behind every number."""
    return float("inf") if value != value else value


def number(value: float | None) -> str:
    """Return three digits; nothing where there is no number."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def markdown(head: Line, lines: Sequence[Line]) -> str:
    """Return a Markdown table."""
    rule = tuple("---" for _ in head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
