"""How well the memory probe predicts the peak of a run: both measured, each in its own process.

``python -m tests.bench_memory [--accelerator gpu] [--model NAME] [--task NAME] [--shapes BxT ...]
[--arms NAME ...] [--steps N] [--words OVERRIDE ...]``: a shape is examples x tokens at most.
Predicted and real are what the run records: allocated on a GPU, resident on a CPU. ``reserved`` is
what PyTorch's allocator held of the GPU; the CUDA context comes on top of it and is in no counter
of PyTorch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fseed.compose.probe import measure
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import plan_run
from tests.configs import compose

TOLERANCE = 0.15
DEFAULT_SHAPES = {"cpu": ("4x256", "16x1024"), "gpu": ("2x2048", "8x512", "8x2048")}


@dataclass(frozen=True)
class Comparison:
    """Peaks in GiB of one configuration; ``reserved`` None on a CPU."""

    name: str
    predicted: float
    real: float
    predicted_reserved: float | None
    real_reserved: float | None
    micro_batch_sizes: tuple[int, int]  # of the probe, of the run

    @property
    def ratio(self) -> float:
        """Predicted over real."""
        return self.predicted / self.real


def compare(words: Sequence[str], *, name: str, folder: Path) -> Comparison:
    """Probe the run of these overrides, then run it."""
    words = [*words, f"output.root={folder}", "trainer.progress=false"]
    run = plan_run(compose(*words)).run
    probe = measure(run)
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "fseed.run", *words, *probe.words(batch_size=_batch_size(run))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    result = _read_result(folder)
    return Comparison(
        name=name,
        predicted=probe.peak_gib or 0.0,
        real=result["peak_memory_gib"],
        predicted_reserved=probe.reserved_gib,
        real_reserved=result["peak_reserved_gib"],
        micro_batch_sizes=(probe.micro_batch_size, result["micro_batch_size"]),
    )


def shape_words(shape: str, *, accelerator: str, model: str, task: str, steps: int) -> list[str]:
    """Return the overrides of one configuration.

    >>> shape_words("2x64", accelerator="cpu", model="nano", task="kvsort", steps=3)[3:5]
    ['budget.batch_size=2', 'budget.eval_batch_size=2']
    """
    size, length = map(int, shape.split("x"))
    trainer = "bf16" if accelerator == "gpu" else "cpu"
    return [
        f"model={model}",
        f"trainer={trainer}",
        f"task={task}",
        f"budget.batch_size={size}",
        f"budget.eval_batch_size={size}",
        f"task.max_length_tokens={length}",
        f"budget.steps={steps}",
        f"data.num_train={max(steps * size, 16)}",
        f"data.num_validation={max(2 * size, 8)}",
    ]


def render(rows: Sequence[Comparison]) -> Table:
    """Return the table: a row a configuration."""
    table = Table(
        "configuration", "predicted GiB", "real GiB", "ratio", "reserved GiB", "micro batch"
    )
    for row in rows:
        reserved = "-"
        if row.predicted_reserved is not None and row.real_reserved is not None:
            reserved = f"{row.predicted_reserved:.2f} / {row.real_reserved:.2f}"
        sizes = " / ".join(map(str, row.micro_batch_sizes))
        figures = (f"{row.predicted:.3f}", f"{row.real:.3f}", f"{row.ratio:.3f}")
        table.add_row(row.name, *figures, reserved, sizes)
    return table


def main() -> int:
    """Compare every configuration; exit 1 where a ratio is off by more than 15 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--task", default="longfill")
    parser.add_argument("--shapes", nargs="*", metavar="BxT")
    parser.add_argument("--arms", nargs="*", default=["no_fs", "scalar_l10", "static"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--words", nargs="*", default=[], help="further overrides")
    options = parser.parse_args()
    rows = []
    for shape in options.shapes or DEFAULT_SHAPES[options.accelerator]:
        for arm in options.arms:
            words = shape_words(
                shape,
                accelerator=options.accelerator,
                model=options.model,
                task=options.task,
                steps=options.steps,
            )
            with tempfile.TemporaryDirectory() as folder:
                name = f"{options.model} {options.task} {shape} {arm}"
                words = [*words, f"fs={arm}", *options.words]
                rows.append(compare(words, name=name, folder=Path(folder)))
            print(rows[-1], flush=True)
    Console().print(render(rows))
    return int(any(abs(row.ratio - 1) > TOLERANCE for row in rows))


def _batch_size(run: PlannedRun) -> int:
    return run.config.budget.batch_size


def _read_result(folder: Path) -> dict:
    (path,) = folder.glob("*/*/*/*/s*-*/result.json")
    return json.loads(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
