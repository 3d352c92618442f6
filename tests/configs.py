"""Configurations for tests: the composed defaults with single values changed."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from fseed.compose.loader import Composer, hydra_session
from fseed.config.schema import RunConfig
from fseed.sweep.plan import Point


@cache
def composer() -> Composer:
    """Keep one composer: what it has composed once, no test composes again."""
    with hydra_session() as hydra:
        return Composer(hydra.config_loader)


@cache
def compose(*overrides: str) -> Point:
    return composer().compose(overrides)


def compose_below(overrides: Sequence[str]) -> Point:
    """Compose the same words once for all tests, which differ in ``output.root``."""
    start = "output.root="
    roots = [word.removeprefix(start) for word in overrides if word.startswith(start)]
    point = compose(*(start + "anywhere" if word.startswith(start) else word for word in overrides))
    config = deepcopy(point.config)
    config.output.root = roots[-1] if roots else config.output.root
    return replace(point, config=config, overrides=list(overrides))


def build_config(*overrides: str, **values: Any) -> RunConfig:
    """Compose ``overrides``, then set dotted keys given as ``budget__steps=3``."""
    content = OmegaConf.structured(compose(*overrides).config)
    for key, value in values.items():
        OmegaConf.update(content, key.replace("__", "."), value)
    config = OmegaConf.to_object(content)
    assert isinstance(config, RunConfig)
    return config
