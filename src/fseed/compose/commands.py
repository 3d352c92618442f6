"""The actions of ``python -m fseed.run``: show something, run once, sweep."""

import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.core.utils import JobReturn

from fseed.compose.command_line import CommandLine, completion_line
from fseed.compose.friendly import friendly_errors
from fseed.compose.job import run_point
from fseed.compose.launcher_extras import refuse_single_run
from fseed.compose.limits import check_gpus, describe_needs
from fseed.compose.loader import CONFIG_NAME, Composer, hydra_session
from fseed.compose.overrides import parse_overrides, schema_types
from fseed.compose.plan_changes import print_plan_changes
from fseed.errors import UserError, did_you_mean
from fseed.launch.train import train
from fseed.planned_run import RunOutcome
from fseed.sweep.execute import execute_run, exit_code
from fseed.sweep.plan import Point, SweepPlan, plan_run
from fseed.sweep.report import render_notes, render_plan


def show(command: CommandLine) -> int:
    """Print versions, Hydra's help, the configuration or what Hydra knows of it."""
    options = command.options
    if options.version:
        print(f"fseed {version('fseed')} (hydra-core {version('hydra-core')})")
        return 0
    with hydra_session(command.config_dirs) as hydra:
        _check(command, hydra)
        # Hydra writes line by line through logging, which reports a closed pipe once per line
        with friendly_errors(), redirect_stdout(StringIO()) as text:
            _show_by_hydra(command, hydra)
    print(text.getvalue(), end="")
    return 0


def complete(command: CommandLine) -> int:
    """Install, remove or answer shell completion."""
    if "COMP_LINE" in os.environ:
        os.environ["COMP_LINE"] = completion_line(os.environ["COMP_LINE"])
    with hydra_session(command.config_dirs) as hydra:
        hydra.shell_completion(config_name=CONFIG_NAME, overrides=command.overrides)
    return 0


def run_once(command: CommandLine) -> int:
    """Check and run one configuration, unless it is finished already."""
    with hydra_session(command.config_dirs) as hydra:
        _check(command, hydra)
        composer = Composer(hydra.config_loader)
        point = composer.compose(command.overrides)
        _refuse_staged(command, point)
        refuse_single_run(point.launcher, point.config.launcher)
        entry = plan_run(point)
        swept = composer.experiment_sweep(command.overrides)
    plan = SweepPlan([entry], num_duplicates=0)
    if swept:
        print(f"note: the experiment sweeps {' and '.join(swept)}: add -m to run all of it")
    if entry.run.config.sweep.diff_against is not None:
        print_plan_changes([entry.run], Path(entry.run.config.sweep.diff_against))
    is_dry = entry.run.config.sweep.dry_run
    check_gpus(plan.to_run)
    needs = describe_needs(plan.to_run, num_at_once=1, refuse=not is_dry)
    for line in [render_plan(plan)] if is_dry else render_notes(plan):
        print(line)
    if needs is not None:
        print(needs)
    if is_dry:
        return 0
    return execute_run(entry.run, position="1/1", train=train).exit_code


def run_sweep(command: CommandLine) -> int:
    """Hand the command line to the sweeper that the configuration names."""
    with hydra_session(command.config_dirs) as hydra:
        _check(command, hydra)
        with friendly_errors():
            returned = hydra.multirun(
                config_name=CONFIG_NAME,
                task_function=run_point,
                overrides=[*command.overrides, "hydra.mode=MULTIRUN"],
                with_log_configuration=False,
            )
    return returned if isinstance(returned, int) else exit_code(list(_outcomes(returned)))


def _refuse_staged(command: CommandLine, point: Point) -> None:
    """Refuse one run where a staged sweep was asked for."""
    if point.choices["sweep"] == "staged" or "hydra/sweeper=staged" in command.overrides:
        raise UserError("a staged sweep is more than one run: add -m")


def _outcomes(returned: object) -> Iterator[RunOutcome]:
    """Yield the outcomes in what another sweeper returns: nested lists of Hydra's job results."""
    if isinstance(returned, JobReturn):
        returned = returned.return_value
    if isinstance(returned, RunOutcome):
        yield returned
    elif isinstance(returned, list | tuple):
        for part in returned:
            yield from _outcomes(part)


def _check(command: CommandLine, hydra: Hydra) -> None:
    parse_overrides(command.overrides, multirun=command.is_sweep, config_loader=hydra.config_loader)


def _show_by_hydra(command: CommandLine, hydra: Hydra) -> None:
    options, overrides = command.options, command.overrides
    if options.hydra_help:
        hydra.hydra_help(config_name=CONFIG_NAME, args_parser=command.parser, args=options)
    elif options.cfg is None:
        hydra.show_info(options.info, config_name=CONFIG_NAME, overrides=overrides)
    else:
        _check_package(options.package)
        hydra.show_cfg(
            config_name=CONFIG_NAME,
            overrides=overrides,
            cfg_type=options.cfg,
            package=options.package,
            resolve=options.resolve or options.cfg == "job",
        )


def _check_package(package: str | None) -> None:
    known = ["_global_", *schema_types()]
    if package is not None and package not in known and not package.startswith("hydra"):
        raise UserError(f"--package {package}: no such key{did_you_mean(package, known)}")
