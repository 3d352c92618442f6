"""Launchers that need more than fseed itself: refused in one line before anything is written."""

from importlib.util import find_spec

from omegaconf import DictConfig

from fseed.errors import UserError

# hydra/launcher -> what it imports, the extra that brings it
EXTRAS = {
    "ray": ("ray", "ray"),
    "submitit_local": ("submitit", "slurm"),
    "submitit_slurm": ("submitit", "slurm"),
}


def check_launcher(config: DictConfig) -> None:
    """Raise UserError when the chosen launcher is not installed."""
    name = launcher_name(config)
    module, _ = EXTRAS.get(name, (None, None))
    if module is not None and find_spec(module) is None:
        raise UserError(missing_extra(name))


def launcher_name(config: DictConfig) -> str:
    """Return the chosen option of ``hydra/launcher``."""
    return str(config.hydra.runtime.choices.get("hydra/launcher"))


def missing_extra(name: str) -> str:
    """Return what to do for a launcher that is not installed."""
    module, extra = EXTRAS[name]
    return f"launcher={name}: {module} is not installed\ninstall it: pip install 'fseed[{extra}]'"
