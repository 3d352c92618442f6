"""Launchers that cannot do what is asked: refused in one line before anything is written."""

from dataclasses import fields
from importlib.util import find_spec

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
        _refuse_options(config)
    module, _ = EXTRAS.get(name, (None, None))
    if module is not None and find_spec(module) is None:
        raise UserError(missing_extra(name))


def refuse_single_run(launcher: str) -> None:
    """Raise UserError for a launcher where one run is asked for, which starts in this process."""
    if launcher != SEQUENTIAL:
        raise UserError(
            f"launcher={launcher}: starts the runs of a sweep, and this is one run here\n"
            "add -m, or leave the launcher out"
        )


def _refuse_options(config: DictConfig) -> None:
    asked = [
        f"launcher.{field.name}"
        for field in fields(LauncherConfig)
        if config.launcher[field.name] != field.default
    ]
    if asked:
        raise UserError(
            f"{', '.join(asked)}: launcher=sequential takes one run after the other in this "
            "process, without options\nadd a launcher: launcher=slots"
        )


def launcher_name(config: DictConfig) -> str:
    """Return the chosen option of ``hydra/launcher``."""
    return str(config.hydra.runtime.choices.get("hydra/launcher"))


def missing_extra(name: str) -> str:
    """Return what to do for a launcher that is not installed."""
    module, extra = EXTRAS[name]
    return f"launcher={name}: {module} is not installed\ninstall it: pip install 'fseed[{extra}]'"
