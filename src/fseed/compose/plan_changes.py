"""``sweep.diff_against``: what a planned sweep changes against the records of an earlier one."""

from collections.abc import Sequence
from pathlib import Path

from fseed.errors import UserError
from fseed.planned_run import PlannedRun


def print_plan_changes(runs: Sequence[PlannedRun], folder: Path) -> None:
    """Print how ``runs`` differ from the runs in ``folder``.

    Raises:
        UserError: when there is no such folder.
    """
    # the part that reads whole sweeps is needed by this option alone
    from fseed.results.differences.sweeps import render_plan_changes

    where = folder.expanduser()
    if not where.is_dir():
        raise UserError(f"sweep.diff_against={folder}: no such folder; give the folder of a sweep")
    print(render_plan_changes(runs, where), end="\n\n")
