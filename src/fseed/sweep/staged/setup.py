"""A staged sweep, checked to its last run before the first one starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fseed.config.schema import RunConfig
from fseed.sweep.decisions import Rules
from fseed.sweep.plan import Compose, Point
from fseed.sweep.staged.book import (
    BASELINE,
    RunBook,
    Slot,
    StagedArm,
    build_book,
    check_all_stages,
    list_arms,
)
from fseed.sweep.staged.plan_file import build_plan
from fseed.sweep.staged.stages import Stage, build_rules, build_stages


@dataclass(frozen=True)
class StagedSweep:
    """A checked sweep: what would run, in which folder, by which rule."""

    folder: Path
    book: RunBook
    stages: tuple[Stage, ...]
    rules: Rules
    arms: tuple[StagedArm, ...]
    has_controls: bool
    plan: dict[str, Any]


def build_sweep(
    points: Sequence[Point], *, first: RunConfig, compose: Compose, command: Sequence[str]
) -> StagedSweep:
    """Return the sweep over ``points``, which are composed without a seed.

    ``first`` says how it is run, and the first seed of the first stage. ``command`` is recorded.

    Raises:
        UserError: for the first thing that cannot work; nothing has been written then.
    """
    stages = build_stages(first.sweep, first_seed=first.seed)
    rules = build_rules(first.sweep)
    book, has_controls = build_book(points, compose=compose), first.sweep.controls
    arms = list_arms(book, stages, has_controls=has_controls)
    check_all_stages(book, stages, has_controls=has_controls)
    run = book.run(Slot(book.tasks[0], BASELINE, stages[0].name), seed=stages[0].seeds[0])
    plan = build_plan(
        book,
        sweep=first.sweep.name,
        stages=stages,
        rules=rules,
        arms=arms,
        has_controls=has_controls,
        command=command,
    )
    # <root>/<sweep>/<task>/<stage>/<arm>/<run>
    folder = run.run_dir.parents[3]
    return StagedSweep(folder, book, stages, rules, tuple(arms), has_controls, plan)
