"""A paired sweep between Hydra and the planner: expand, compose, plan, launch."""

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from fseed.compose.job import PlannedJob
from fseed.compose.loader import Composer
from fseed.compose.overrides import expand_sweep, parse_overrides
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
    plan = plan_points(arguments, params=params, hydra_context=hydra_context)
    if any(entry.run.config.sweep.dry_run for entry in plan.entries):
        print(render_plan(plan))
        return 0

    def launch(runs: Sequence[PlannedRun]) -> list[RunOutcome]:
        return launch_runs(runs, plan=plan, hydra_context=hydra_context, config=config)

    return run_plan(plan, launch=launch, show_table=show_table)


def plan_points(
    arguments: Sequence[str], *, params: Mapping[str, str], hydra_context: HydraContext
) -> SweepPlan:
    """Expand the grid of ``arguments``, and of ``params`` where the command line is silent."""
    loader = hydra_context.config_loader
    given = parse_overrides(arguments, multirun=True, config_loader=loader)
    keys = {override.get_key_element() for override in given}
    words = [f"{key}={values}" for key, values in params.items() if key not in keys]
    asked = parse_overrides(words, multirun=True, config_loader=loader)
    composer = Composer(loader)
    # one after the other: a mistake that every point shares is told after the first
    points = (composer.compose(point) for point in expand_sweep([*given, *asked]))
    return plan_sweep(points, compose=composer.compose)


def launch_runs(
    runs: Sequence[PlannedRun], *, plan: SweepPlan, hydra_context: HydraContext, config: DictConfig
) -> list[RunOutcome]:
    """Run ``runs`` through the launcher that the configuration names."""
    folder = str(runs[0].run_dir.parents[3])
    with read_write(config):
        config.hydra.sweep.dir = folder
    # each job composes anew from these words
    quoted = QuotedString(folder, Quote.single).with_quotes()
    config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted}")
    job = PlannedJob(list(runs), [plan.position(run) for run in runs])
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context, task_function=job, config=config
    )
    returns = launcher.launch([run.overrides for run in runs], initial_job_idx=0)
    return [_outcome(returned) for returned in returns]


def _outcome(returned: JobReturn) -> RunOutcome:
    try:
        outcome = returned.return_value
    # whatever a launcher caught in its worker process
    except Exception as error:
        return RunOutcome("failed", f"{type(error).__name__}: {error}", 1)
    assert isinstance(outcome, RunOutcome)
    return outcome
