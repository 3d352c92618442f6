"""A staged sweep between Hydra and ``fseed.sweep.staged``: words to arms, stages, launches."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig

from fseed.compose.launcher_extras import check_launcher, launcher_name
from fseed.compose.launching import is_sequential, launch_runs, set_launch_folder
from fseed.compose.limits import count_at_once
from fseed.compose.loader import Composer
from fseed.compose.overrides import expand_sweep, parse_overrides
from fseed.compose.plan_changes import print_plan_changes
from fseed.compose.probe import measure
from fseed.config.schema import RunConfig
from fseed.errors import UserError
from fseed.identity import ARM_KEYS
from fseed.lasting_console import LastingConsole
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.staged.book import BASELINE, Slot
from fseed.sweep.staged.dry_run import render_dry_run
from fseed.sweep.staged.limits import describe_staged_needs
from fseed.sweep.staged.live_table import LiveTable
from fseed.sweep.staged.runner import ShowReport, Tools, run_staged
from fseed.sweep.staged.setup import StagedSweep, build_sweep


def run_staged_sweep(
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_context: HydraContext,
    config: DictConfig,
    show_report: ShowReport,
) -> int:
    """Check every arm, task and stage, then print the plan (dry run) or run it; the exit code.

    Raises:
        UserError: before anything is written, when any part of the sweep cannot work.
    """
    check_launcher(config)
    launcher = launcher_name(config)
    sweep, first = plan_staged(
        arguments, params=params, hydra_context=hydra_context, launcher=launcher
    )
    against = first.sweep.diff_against
    if against is not None:
        print_plan_changes(_first_runs(sweep), Path(against))
    if first.sweep.dry_run:
        print(render_dry_run(sweep, against=None if against is None else Path(against)))
    needs = describe_staged_needs(
        sweep,
        num_at_once=count_at_once(_first_runs(sweep), config),
        max_hours=first.sweep.max_hours,
        refuse=not first.sweep.dry_run,
    )
    print(needs, flush=True)
    if first.sweep.dry_run:
        return 0
    set_launch_folder(config, sweep.folder)
    view = LiveTable(LastingConsole())

    def launch(runs: Sequence[PlannedRun], positions: Sequence[str]) -> list[RunOutcome]:
        shown = [_without_progress(run) for run in runs] if view.is_redrawn else runs
        return launch_runs(shown, positions, hydra_context=hydra_context, config=config)

    batch_size = 1 if is_sequential(config) else None
    return run_staged(sweep, Tools(launch, measure, show_report, view, batch_size))


def plan_staged(
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_context: HydraContext,
    launcher: str | None = None,
) -> tuple[StagedSweep, RunConfig]:
    """Return the checked sweep of a command line, and the first of its configurations.

    ``seed=N`` is the first seed of the first stage; the stages count on from there.
    """
    loader = hydra_context.config_loader
    given = parse_overrides(arguments, multirun=True, config_loader=loader)
    keys = {override.get_key_element() for override in given}
    words = [f"{key}={values}" for key, values in params.items() if key not in keys]
    overrides = [*given, *parse_overrides(words, multirun=True, config_loader=loader)]
    check_swept_keys(overrides)
    composer, grid = Composer(loader, launcher=launcher), expand_sweep(overrides)
    first = composer.compose(grid[0]).config
    points = [composer.compose(_without_seed(words)) for words in grid]
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return build_sweep(points, first=first, compose=composer.compose, command=command), first


def check_swept_keys(overrides: Sequence[Override]) -> None:
    """Refuse lists of values of what every arm of a task must share.

    Raises:
        UserError: for a key that is neither the task nor part of an arm, or a set stage.
    """
    for override in overrides:
        key, text = override.get_key_element(), str(override.input_line)
        if key == "sweep.stage":
            raise UserError(f"{text}: a staged sweep names its stages itself; leave it out")
        if not override.is_sweep_override():
            continue
        if key == "seed":
            raise UserError(
                f"{text}: a staged sweep counts its own seeds; give the first one alone, seed=0\n"
                "how many: sweep.quick_seeds, sweep.medium_seeds, sweep.confirm_seeds"
            )
        if key != "task" and key.split(".")[0] not in ARM_KEYS:
            raise UserError(
                f"{text}: a staged sweep compares arms of Future-Seed, and {key} is part of none\n"
                f"give one value of {key}, another sweep.name for each"
            )


def _first_runs(sweep: StagedSweep) -> list[PlannedRun]:
    """Return one run of every task and arm, baselines included, as the first stage starts them."""
    stage = sweep.stages[0]
    return [
        sweep.book.run(Slot(task, arm, stage.name), seed=stage.seeds[0])
        for task in sweep.book.tasks
        for arm in (BASELINE, *sweep.book.arms)
    ]


def _without_seed(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.split("=", 1)[0] != "seed"]


def _without_progress(run: PlannedRun) -> PlannedRun:
    """Turn the bar of a run off, where the table of arms owns the terminal."""
    return replace(
        run, config=replace(run.config, trainer=replace(run.config.trainer, progress=False))
    )
