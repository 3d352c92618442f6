"""Simulate sweeps of known truth and write what the statistics make of them.

``python -m fseed.simulation --output DIR [--sweeps N] [--seed S]``
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fseed.atomic import write_text_atomic
from fseed.errors import UserError
from fseed.simulation.adjustments import study_adjustments
from fseed.simulation.coverage import study_equivalence, study_item_intervals, study_seed_intervals
from fseed.simulation.false_positives import study_false_positives
from fseed.simulation.power import study_power
from fseed.simulation.tables import Table, render_csv, render_markdown

MIN_SWEEPS = 100
Study = Callable[[int, np.random.Generator], Table]
# intervals are cheap and searches at equal cost are dear
STUDIES: dict[str, Study] = {
    "false_positives": lambda n, rng: study_false_positives(num_sweeps=n, generator=rng),
    "power": lambda n, rng: study_power(num_families=n // 2, generator=rng),
    "coverage_seeds": lambda n, rng: study_seed_intervals(num_repeats=2 * n, generator=rng),
    "coverage_items": lambda n, rng: study_item_intervals(num_repeats=2 * n, generator=rng),
    "equivalence": lambda n, rng: study_equivalence(num_repeats=2 * n, generator=rng),
    "adjustments": lambda n, rng: study_adjustments(num_families=n, generator=rng),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 for bad input."""
    options = build_parser().parse_args(argv)
    try:
        if options.sweeps < MIN_SWEEPS:
            raise UserError(f"--sweeps {options.sweeps}: must be {MIN_SWEEPS} or more")
        if options.seed < 0:
            raise UserError(f"--seed {options.seed}: must be 0 or more")
        output = Path(options.output)
        if output.exists() and not output.is_dir():
            raise UserError(f"--output {output}: is no folder")
    except UserError as error:
        print(f"fseed.simulation: {error}", file=sys.stderr)
        return 2
    tables = []
    for table in run_studies(num_sweeps=options.sweeps, seed=options.seed):
        write_text_atomic(output / f"{table.name}.csv", render_csv(table))
        print(render_markdown(table), flush=True)
        tables.append(table)
    page = render_page(tables, num_sweeps=options.sweeps, seed=options.seed)
    write_text_atomic(output / "README.md", page)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="python -m fseed.simulation", description=__doc__)
    parser.add_argument("--output", required=True, help="folder of the Markdown page and the CSVs")
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated sweeps per case")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws")
    return parser


def run_studies(*, num_sweeps: int, seed: int) -> Iterator[Table]:
    """Yield every table; each study has a stream of random numbers of its own."""
    streams = np.random.SeedSequence(seed).spawn(len(STUDIES))
    for study, stream in zip(STUDIES.values(), streams, strict=True):
        yield study(num_sweeps, np.random.default_rng(stream))


def render_page(tables: Sequence[Table], *, num_sweeps: int, seed: int) -> str:
    """Return the page: how it was made, what fails, then every table."""
    command = (
        f"python -m fseed.simulation --output paper/simulations --sweeps {num_sweeps} --seed {seed}"
    )
    failures = [line for table in tables for line in table.failures]
    listed = "\n".join(f"- {line}" for line in failures) or "- none"
    head = (
        "# The statistics on simulated sweeps\n\n"
        f"Generated, every figure in it, by\n`{command}`.\n"
        "Percent and percentage points; a `verdict` holds the 99 % binomial interval of a rate\n"
        "against its nominal value.\n\n"
        "## What misses its nominal rate, and where a rival beats the default race "
        f"({len(failures)} rows)\n\n{listed}\n"
    )
    return "\n".join([head, *(render_markdown(table) for table in tables)])


if __name__ == "__main__":
    sys.exit(main())
