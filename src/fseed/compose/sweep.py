"""A paired sweep between Hydra and the planner: expand, compose, plan, launch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig

from fseed.compose.launcher_extras import check_launcher, launcher_name
from fseed.compose.launching import launch_runs, set_launch_folder
from fseed.compose.limits import count_at_once, describe_needs, seconds_of_start
from fseed.compose.loader import Composer
from fseed.compose.overrides import expand_sweep, parse_overrides
from fseed.compose.plan_changes import print_plan_changes
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.execute import ShowTable, run_plan
from fseed.sweep.plan import SweepPlan, plan_sweep
from fseed.sweep.report import render_plan


def run_paired_sweep(
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_context: HydraContext,
    config: DictConfig,
    show_table: ShowTable,
) -> int:
    """Plan every point, then print the plan (dry run) or run it; return the exit code.

    Raises:
        UserError: before anything is written, when any point of the grid cannot work.
    """
    check_launcher(config)
    launcher = launcher_name(config)
    plan = plan_points(arguments, params=params, hydra_context=hydra_context, launcher=launcher)
    _print_changes(plan)
    is_dry = any(entry.run.config.sweep.dry_run for entry in plan.entries)
    at_once = count_at_once(plan.to_run, config)
    needs = describe_needs(
        plan.to_run,
        num_at_once=at_once,
        refuse=not is_dry,
        start_seconds=seconds_of_start(config),
    )
    if is_dry:
        print(render_plan(plan))
    if needs is not None:
        print(needs, flush=True)
    if is_dry:
        return 0

    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        set_launch_folder(config, runs[0].run_dir.parents[3])
        positions = [plan.position(run) for run in runs]
        return launch_runs(runs, positions, hydra_context=hydra_context, config=config)

    return run_plan(plan, launch=launch, show_table=show_table)


def plan_points(
    arguments: Sequence[str],
    *,
    params: Mapping[str, str],
    hydra_context: HydraContext,
    launcher: str | None = None,
) -> SweepPlan:
    """Expand the grid of ``arguments``, and of ``params`` where the command line is silent."""
    loader = hydra_context.config_loader
    given = parse_overrides(arguments, multirun=True, config_loader=loader)
    keys = {override.get_key_element() for override in given}
    words = [f"{key}={values}" for key, values in params.items() if key not in keys]
    asked = parse_overrides(words, multirun=True, config_loader=loader)
    composer = Composer(loader, launcher=launcher)
    # one after the other: a mistake that every point shares is told after the first
    points = (composer.compose(point) for point in expand_sweep([*given, *asked]))
    return plan_sweep(points, compose=composer.compose)


def _print_changes(plan: SweepPlan) -> None:
    """Print what changes against each earlier sweep that ``sweep.diff_against`` names."""
    runs = [entry.run for entry in plan.entries]
    for folder in dict.fromkeys(run.config.sweep.diff_against for run in runs):
        if folder is not None:
            print_plan_changes(
                [run for run in runs if run.config.sweep.diff_against == folder], Path(folder)
            )
