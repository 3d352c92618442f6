"""The times as a picture: one column per shape, the streaming floor as a line."""

from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row
from bench.table import FLOOR, both_passes, checked_versions, shapes_of

STYLES = {"ours": ("o", 80), "reference": ("s", 40), "peer": ("D", 36)}


def plot_times(rows: Sequence[Row], paths: Sequence[Path], *, title: str) -> None:
    """Draw forward + backward in milliseconds on a log scale, one file per path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = shapes_of(rows, "forward_backward")
    names = [
        name
        for name in checked_versions(rows)
        if any(both_passes(rows, name, shape) is not None for shape in shapes)
    ]
    groups = {row.implementation: row.group for row in rows}
    figure, axes = plt.subplots(figsize=(10, 5.5), layout="constrained")
    colors = plt.get_cmap("tab20")
    for index, name in enumerate(names):
        points = [(x, both_passes(rows, name, shape)) for x, shape in enumerate(shapes)]
        points = [(x, value) for x, value in points if value is not None]
        # side by side inside a column, so that equal times do not hide each other
        shift = 0.6 * (index / max(1, len(names) - 1) - 0.5)
        marker, size = STYLES[groups[name]]
        axes.scatter(
            [x + shift for x, _ in points],
            [value for _, value in points],
            marker=marker, s=size, color=colors(index % 20), label=name, zorder=3,
        )  # fmt: skip
    for x, shape in enumerate(shapes):
        floor = both_passes(rows, FLOOR, shape)
        if floor is not None:
            label = FLOOR if x == 0 else "_"  # a leading underscore: not in the legend
            axes.hlines(floor, x - 0.4, x + 0.4, color="black", linewidth=2, label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(shapes)), shapes)
    axes.set_xlabel("batch x tokens x heads, head size 64")
    axes.set_ylabel("forward + backward, GPU ms (median)")
    axes.set_title(title)
    axes.grid(visible=True, axis="y", which="both", alpha=0.3)
    if names:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
