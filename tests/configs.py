"""Configurations for tests: the composed defaults with single values changed."""

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


def build_config(*overrides: str, **values: Any) -> RunConfig:
    """Compose ``overrides``, then set dotted keys given as ``budget__steps=3``."""
    content = OmegaConf.structured(compose(*overrides).config)
    for key, value in values.items():
        OmegaConf.update(content, key.replace("__", "."), value)
    config = OmegaConf.to_object(content)
    assert isinstance(config, RunConfig)
    return config
