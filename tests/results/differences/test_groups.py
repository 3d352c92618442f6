"""Every leaf of the schema has one group, and the groups agree with the identity of a run."""

from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from omegaconf import OmegaConf

from fseed.config.rules import leaves
from fseed.config.schema import ControlKind, Gate, Mode, RunConfig, ScheduleKind
from fseed.identity import Hashes, identify, is_read
from fseed.results.differences.groups import (
    GROUPS,
    SECTIONS,
    group_of_record,
    group_of_setting,
)
from fseed.results.runs import config_leaves
from tests.configs import build_config

HASHES = Hashes(data="d", weights="w", vocabulary=None, code="c")
CONFIG = build_config()
LEAVES = dict(leaves(CONFIG))


def changed(config: RunConfig, key: str) -> RunConfig:
    """Return ``config`` with another value of the same type at ``key``."""
    content = OmegaConf.structured(config)
    OmegaConf.update(content, key, other_value(OmegaConf.select(content, key)))
    result = OmegaConf.to_object(content)
    assert isinstance(result, RunConfig)
    return result


def other_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return {None: "7"}.get(value, f"{value}x")


@pytest.mark.parametrize("key", LEAVES)
def test_every_leaf_of_the_schema_is_in_exactly_one_group(key: str) -> None:
    sections = [name for names in SECTIONS.values() for name in names]
    assert len(sections) == len(set(sections))
    named = [name for name in sections if key == name or key.startswith(f"{name}.")]
    # one section, or a volatile key inside of another section
    assert 1 <= len(named) <= 2
    assert group_of_setting(key) in GROUPS
    assert group_of_setting(key) == group_of_setting(max(named, key=len))


@pytest.mark.parametrize("key", [key for key in LEAVES if key != "task.options"])
def test_what_moves_the_run_id_is_not_volatile(key: str) -> None:
    before, after = identify(CONFIG, HASHES), identify(changed(CONFIG, key), HASHES)
    group = group_of_setting(key)
    if group == "fs":
        assert before.pair_key == after.pair_key
    else:
        assert (before.run_id != after.run_id) == (group != "volatile")
        assert before.arm_key == after.arm_key


ARMS = [
    replace(
        CONFIG,
        fs=replace(CONFIG.fs, mode=mode),
        fs_variant=replace(CONFIG.fs_variant, gate=gate),
        schedule=replace(CONFIG.schedule, kind=schedule),
        control=replace(CONFIG.control, kind=control),
    )
    for mode in Mode
    for gate, schedule, control in [
        (Gate.scalar, ScheduleKind.none, ControlKind.none),
        (Gate.head, ScheduleKind.cosine, ControlKind.none),
        (Gate.inputgate, ScheduleKind.linear, ControlKind.learned_state),
        (Gate.raw, ScheduleKind.none, ControlKind.shuffled_state),
        (Gate.scalar, ScheduleKind.none, ControlKind.random_state),
        (Gate.scalar, ScheduleKind.none, ControlKind.aa),
    ]
]
KINDS = ("fs.mode", "control.kind", "fs_variant.gate", "schedule.kind")


@pytest.mark.parametrize("config", ARMS)
def test_options_that_nothing_reads_are_those_that_leave_the_arm_alone(config: RunConfig) -> None:
    settings = dict(config_leaves(plain(config)))
    before = identify(config, HASHES).arm_key
    for key in LEAVES:
        if group_of_setting(key) == "fs" and key not in KINDS:
            after = identify(changed(config, key), HASHES).arm_key
            assert is_read(key, settings) == (before != after), key


def plain(config: RunConfig) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("fs.mode", "fs"),
        ("lstart", "fs"),
        ("control.kind", "fs"),
        ("seed", "seed"),
        ("data.seed", "data"),
        ("data.root", "volatile"),
        ("task.options.num_notes", "data"),
        ("budget.steps", "budget"),
        ("budget.checkpoint_every_steps", "volatile"),
        ("optim.lr", "optimiser"),
        ("model.width", "model"),
        ("model.weights", "volatile"),
        ("trainer.precision", "environment"),
        ("trainer.num_threads", "volatile"),
        ("sweep.name", "volatile"),
        ("of_another_version.key", "code"),
    ],
)
def test_groups_of_settings(key: str, group: str) -> None:
    assert group_of_setting(key) == group


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("data_hash", "data"),
        ("data.counts.train", "data"),
        ("data.preflight.train.usable", "volatile"),
        ("weights_hash", "model"),
        ("versions.torch", "environment"),
        ("versions.fseed", "volatile"),
        ("wkv_backend.name", "environment"),
        ("code_hash", "code"),
        ("git_commit", "volatile"),
        ("run_id", "volatile"),
        ("started_at", "volatile"),
    ],
)
def test_groups_of_provenance(key: str, group: str) -> None:
    assert group_of_record(key) == group
