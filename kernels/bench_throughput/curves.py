"""The losses of the trainers over many steps, as CSV and as a picture."""

import csv
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from bench_throughput.jobs import find_trainer
from bench_throughput.rows import Row, select


def curves_of(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return the losses by trainer, of the last training of each."""
    found = select(rows, kind="train", purpose="curves")
    return {find_trainer(row["trainer"]).label: row["losses"] for row in found}


def write_curves(path: Path, rows: Sequence[Row]) -> None:
    """Write a line a step and a column a trainer."""
    curves = curves_of(rows)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *curves])
        for step, losses in enumerate(zip_longest(*curves.values(), fillvalue=""), start=1):
            writer.writerow([step, *losses])


def plot_curves(paths: Sequence[Path], rows: Sequence[Row], *, title: str) -> None:
    """Draw the losses, and below how far each is from the first trainer's; one file a path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = curves_of(rows)
    first = next(iter(curves.values()))
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 6), sharex=True, layout="constrained", height_ratios=(3, 1)
    )
    for label, losses in curves.items():
        steps = range(1, len(losses) + 1)
        above.plot(steps, losses, label=label, linewidth=1.2)
        both = zip(losses, first, strict=False)
        apart = [loss - other for loss, other in both]
        below.plot(range(1, len(apart) + 1), apart, linewidth=1.0)
    above.set_ylabel("loss, nats per answer token")
    above.set_title(title)
    above.legend()
    below.set_ylabel(f"minus {next(iter(curves))}")
    below.set_xlabel("optimiser step")
    for axes in (above, below):
        axes.grid(visible=True, alpha=0.3)
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
