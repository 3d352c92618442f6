"""What is legal but cannot do what it says."""

import math

from fseed.config.schema import Gate, Mode, Norm, RunConfig

PRETRAINED_LR = 1e-4  # above it, an update is meant for random weights


def notes(config: RunConfig) -> list[str]:
    """Return one line for each option that is legal but cannot do what it says."""
    found = []
    if config.fs.mode is Mode.prompt_fs:
        found += _clip_note(config) + _raw_note(config)
    return found + _learning_rate_note(config)


def _clip_note(config: RunConfig) -> list[str]:
    variant, head_size = config.fs_variant, config.model.head_size
    frozen = config.alpha.lr == 0 and variant.gate in (Gate.scalar, Gate.raw)
    frozen_heads = config.alpha.lr == 0 and variant.gate is Gate.head and variant.head_lr == 0
    if variant.norm is not Norm.rms or variant.clip == 0 or not (frozen or frozen_heads):
        return []
    assert head_size is not None
    # the largest entry of an N x N state with rms 1 is N
    largest = _strength(config) * head_size
    if variant.clip < largest:
        return []
    return [
        f"fs_variant.clip={variant.clip:g} can never bind: strength x head size = {largest:.3g}"
    ]


def _learning_rate_note(config: RunConfig) -> list[str]:
    if config.model.weights is None or config.optim.lr <= PRETRAINED_LR:
        return []
    return [
        f"optim.lr={config.optim.lr:g} is high for given weights; optim=finetune is made for them"
    ]


def _raw_note(config: RunConfig) -> list[str]:
    if config.fs_variant.gate is not Gate.raw:
        return []
    if config.alpha.init == 0 and config.alpha.lr == 0:
        return ["the raw gate starts at 0 and alpha.lr=0 keeps it there: this arm is a no-op"]
    if config.alpha.init != 0:
        return [f"the raw gate is alpha itself: the strength starts at {config.alpha.init:g}"]
    return []


def _strength(config: RunConfig) -> float:
    """Return the largest strength of any layer while its gates stay at their start values."""
    variant, schedule = config.fs_variant, config.schedule
    gate = config.alpha.init if variant.gate is Gate.raw else _sigmoid(config.alpha.init)
    if variant.gate is Gate.head:
        gate *= _sigmoid(variant.head_init)
    deepest = 1.0 if schedule.kind.value == "none" else max(abs(schedule.low), abs(schedule.high))
    return abs(gate) * variant.seed_scale * deepest


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else 1.0 - 1.0 / (1.0 + math.exp(value))
