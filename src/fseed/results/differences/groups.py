"""Which group every setting and every provenance entry of a run belongs to.

The groups of Future-Seed and of volatile keys are those of ``fseed.identity``: what changes a
number is in no other place than what makes a run id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache, lru_cache
from typing import get_type_hints

from fseed.config.schema import RunConfig
from fseed.identity import ARM_KEYS, VOLATILE_KEYS

FS = "fs"
SEED = "seed"
CODE = "code"
VOLATILE = "volatile"

# group -> the top-level keys of the configuration that it holds
SECTIONS: dict[str, Sequence[str]] = {
    FS: ARM_KEYS,
    SEED: ("seed",),
    "budget": ("budget",),
    "data": ("task", "data", "mbpp"),
    "optimiser": ("optim",),
    "model": ("model",),
    "environment": ("trainer",),
    CODE: (),
    VOLATILE: VOLATILE_KEYS,
}
GROUPS = tuple(SECTIONS)

# of provenance.json; every other key there is derived from these or names the moment of the run
_RECORDED: dict[str, Sequence[str]] = {
    "data": ("data_hash", "data.counts"),
    "model": ("weights_hash", "vocabulary_hash", "model.parameters", "model.initialization"),
    "environment": ("versions", "platform", "device", "sandbox", "wkv_backend"),
    # commit and version also move with documents; the hash covers what can change a number
    CODE: ("code_hash",),
    VOLATILE: ("versions.fseed", "device.threads"),
}


@lru_cache(maxsize=4096)
def group_of_setting(key: str) -> str:
    """Return the group of a dotted key of config.yaml.

    A key that this version does not know was written by other code, and counts as code.
    """
    return _longest_match(key, SECTIONS) or CODE


@lru_cache(maxsize=4096)
def group_of_record(key: str) -> str:
    """Return the group of a dotted key of provenance.json."""
    return _longest_match(key, _RECORDED) or VOLATILE


@cache
def setting_keys() -> tuple[str, ...]:
    """Return the dotted key of every leaf of the configuration."""
    return tuple(_leaf_keys(RunConfig, ""))


def _leaf_keys(node: type, prefix: str) -> Iterator[str]:
    for name, kind in get_type_hints(node).items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _leaf_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _longest_match(key: str, groups: Mapping[str, Sequence[str]]) -> str | None:
    """Return the group that names ``key`` or the longest dotted beginning of it."""
    owners = {name: group for group, names in groups.items() for name in names}
    parts = key.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((owners[name] for name in beginnings if name in owners), None)
