"""Sweeps for the tests of differences."""

from pathlib import Path
from typing import Any

from tests.results.builders import RunSpec, finish_run

ARMS = ("no_fs", "scalar_l10", "raw_l8")


def write_small_sweep(
    root: Path,
    *,
    name: str = "old",
    arms: tuple[str, ...] = ARMS,
    seeds: tuple[int, ...] = (0, 1),
    **changes: Any,
) -> Path:
    """Write one finished run per arm and seed and return the folder of the sweep."""
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    for arm in arms:
        for seed in seeds:
            finish_run(root, RunSpec(arm=arm, seed=seed, sweep=name, changes=settings))
    return root / name


def only_run(root: Path, arm: str, seed: int) -> Path:
    """Return the one run directory of an arm and a seed below ``root``."""
    (path,) = root.rglob(f"{arm}/s{seed}-*")
    return path
