"""Launchers that cannot do what is asked: refused in one line before anything is written."""

from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from fseed.config.schema import LauncherConfig
from fseed.errors import UserError

SEQUENTIAL = "basic"  # the name that Hydra gives it

# hydra/launcher -> what it imports, the extra that brings it
EXTRAS = {
    "ray": ("ray", "ray"),
    "submitit_local": ("submitit", "slurm"),
    "submitit_slurm": ("submitit", "slurm"),
}


def check_launcher(config: DictConfig) -> None:
    """Raise UserError when the chosen launcher is not installed, or takes none of its options."""
    name = launcher_name(config)
    if name == SEQUENTIAL:
        options = {field.name: config.launcher[field.name] for field in fields(LauncherConfig)}
        _refuse_options(
            options, "launcher=sequential takes one run after the other in this process"
        )
    module, _ = EXTRAS.get(name, (None, None))
    if module is not None and find_spec(module) is None:
        raise UserError(missing_extra(name))


def refuse_single_run(launcher: str, options: LauncherConfig) -> None:
    """Raise UserError for a launcher, or options of one, where one run is asked for.

    One run starts in this process.
    """
    if launcher == SEQUENTIAL:
        _refuse_options(vars(options), "one run starts in this process")
    else:
        raise UserError(
            f"launcher={launcher}: starts the runs of a sweep, and this is one run here\n"
            "add -m, or leave the launcher out"
        )


def _refuse_options(options: Mapping[str, Any], why: str) -> None:
    asked = [
        f"launcher.{field.name}"
        for field in fields(LauncherConfig)
        if options[field.name] != field.default
    ]
    if asked:
        raise UserError(
            f"{', '.join(asked)}: {why}, without options\nadd a launcher to a sweep: "
            "launcher=slots -m"
        )


def launcher_name(config: DictConfig) -> str:
    """Return the chosen option of ``hydra/launcher``."""
    return str(config.hydra.runtime.choices.get("hydra/launcher"))


def missing_extra(name: str) -> str:
    """Return what to do for a launcher that is not installed."""
    module, extra = EXTRAS[name]
    return f"launcher={name}: {module} is not installed\ninstall it: pip install 'fseed[{extra}]'"
