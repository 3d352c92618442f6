"""Everything a command measured as one Markdown page, and the files beside it."""

from collections.abc import Sequence
from pathlib import Path

from bench.table import markdown
from bench_throughput import table
from bench_throughput.curves import curves_of, plot_curves, write_curves
from bench_throughput.parts import PARTS
from bench_throughput.projection import (
    NUM_ARMS,
    NUM_SEEDS,
    STAGE_STEPS,
    TASKS,
    Side,
    project,
    read_side,
)
from bench_throughput.rows import Row, latest, select, write_rows


def write_report(folder: Path, rows: Sequence[Row], *, machine: dict[str, str]) -> str:
    """Write throughput.jsonl, throughput.md and the curves; return the page."""
    write_rows(folder / "throughput.jsonl", rows)
    page = render_report(rows, machine=machine)
    (folder / "throughput.md").write_text(page)
    if curves_of(rows):
        write_curves(folder / "curves.csv", rows)
        shape = select(rows, kind="train", purpose="curves")[-1]["shape"]
        paths = [folder / f"curves.{kind}" for kind in ("png", "svg")]
        plot_curves(paths, rows, title=f"{shape}, {machine['device']}")
    return page


def render_report(rows: Sequence[Row], *, machine: dict[str, str]) -> str:
    """Return the page; the short table comes last."""
    sections = {
        "Speed": table.render_comparison(rows) if table.compared(rows) else "",
        "Bars": table.render_bars(rows) if table.compared(rows) else "",
        "Model FLOPs": table.render_flops(rows) if table.compared(rows) else "",
        "Start": table.render_starts(rows) if table.compared(rows) else "",
        "First steps": table.render_losses(rows) if table.compared(rows) else "",
        "Parity with FLA's model": table.render_parity(rows),
        "Profile of a step": render_profiles(rows),
        "Memory": table.render_memory(rows),
        "Projection: the matched search of round 21": render_projection(rows),
        "Not measured": table.render_missing(rows),
        "In short": table.render_short(rows) if table.compared(rows) else "",
    }
    parts = ["# Throughput of training", ", ".join(f"{k} {v}" for k, v in machine.items())]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


def render_profiles(rows: Sequence[Row]) -> str:
    """Return a table for each profiled step."""
    return "\n\n".join(render_profile(row) for row in select(rows, kind="profile"))


def render_profile(row: Row) -> str:
    """Return time, bytes and share of the roofline by part.

    The roofline is the least time of a part on this device: its bytes or its FLOPs. ``left`` is
    what a perfect form would save.
    """
    total, busy = row["milliseconds"], sum(row["parts"].values())
    lines = []
    for part in PARTS:
        if part not in row["parts"]:
            continue
        spent, least = row["parts"][part], row["least_milliseconds"].get(part)
        moved = row["bytes"].get(part)
        lines.append(
            (
                part,
                f"{spent:.3f}",
                f"{spent / total:.1%}",
                "" if moved is None else f"{moved / 1e9:.2f}",
                "" if least is None else f"{least:.3f}",
                "" if least is None else f"{least / spent:.0%}",
                "" if least is None else f"{spent - least:.3f}",
            )
        )
    gaps = max(0.0, total - busy)
    lines.append(("nothing ran (host)", f"{gaps:.3f}", f"{gaps / total:.1%}", "", "", "", ""))
    lines.append(("step, not profiled", f"{total:.3f}", "100%", "", "", "", ""))
    head = ("part", "ms", "of the step", "GB", "roofline ms", "share of it", "left ms")
    rest = ", ".join(f"{name} {value:.3f}" for name, value in row["rest"].items())
    title = f"{row['shape']}, {row['choice']} ({row['step']}, {row['backend']}), {row['device']}"
    note = f"\n\nLargest of everything else, ms: {rest}" if rest else ""
    return f"### {title}\n\n{markdown(head, lines)}{note}"


def render_projection(rows: Sequence[Row]) -> str:
    """Return GPU minutes of both ways, and every input."""
    sides = [
        ("fseed, one resident worker", read_side(rows, "ours", process_per_run=False)),
        ("unfused, a process a run", read_side(rows, "unfused", process_per_run=True)),
    ]
    found = [(label, side) for label, side in sides if side is not None]
    if len(found) < len(sides) or latest(rows, kind="score") is None:
        return ""
    projected = [(label, project(side)) for label, side in found]
    lines = [
        (label, *(f"{value:.1f}" for value in vars(p).values()), f"{p.total:.1f}",
         f"{projected[-1][1].total / p.total:.1f}x")
        for label, p in projected
    ]  # fmt: skip
    head = ("GPU minutes", "starts", "training", "scoring", "decoding", "all", "speed-up")
    stages = ", ".join(f"{name} {steps} steps" for name, steps in STAGE_STEPS.items())
    tasks = ", ".join(f"{task.name} {task.length} tokens" for task in TASKS)
    inputs = [
        f"- Search: {tasks}; {NUM_ARMS} arms x {NUM_SEEDS} seeds; {stages}, batch 2 for all arms.",
        *(_inputs(label, side) for label, side in found),
    ]
    return "\n".join([markdown(head, lines), "", *inputs])


def _inputs(label: str, side: Side) -> str:
    steps = ", ".join(f"L {k}: {1e3 * v:.1f} ms" for k, v in sorted(side.steps.items()))
    scored = ", ".join(f"{k} tokens: {1e3 * v:.1f} ms" for k, v in sorted(side.scored.items()))
    decoded = side.decoded_per_second
    return (
        f"- {label}: first start {side.first_start:.1f} s, each later one "
        f"{side.later_start:.1f} s; steps {steps}; scored batches {scored}; decoding "
        + ("not measured" if decoded is None else f"{decoded:,.0f} tokens/s")
        + "."
    )
