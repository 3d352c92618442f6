"""The arm: sections ``fs``, ``fs_variant``, ``alpha``, ``schedule`` and ``control``."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Mode(Enum):
    """Whether the prompt pass seeds each layer from the layer below."""

    no_fs = "no_fs"
    prompt_fs = "prompt_fs"


class Gate(Enum):
    """Strength of the carried state, see mechanism section 2."""

    scalar = "scalar"
    head = "head"
    inputgate = "inputgate"
    raw = "raw"


class Norm(Enum):
    """Scale of the carried state before the gate."""

    rms = "rms"
    none = "none"


class ScheduleKind(Enum):
    """How the strength changes with depth."""

    none = "none"
    linear = "linear"
    cosine = "cosine"


class ControlKind(Enum):
    """Arms that tell a mechanism from an accident."""

    none = "none"
    aa = "aa"
    shuffled_state = "shuffled_state"
    random_state = "random_state"
    learned_state = "learned_state"
    same_layer = "same_layer"
    repeat_prompt = "repeat_prompt"


@dataclass
class FutureSeedConfig:
    """Whether Future-Seed is on at all; its options stand in the groups below."""

    mode: Mode = MISSING
    allow_noop: bool = False  # let lstart >= num_layers seed no layer


@dataclass
class VariantConfig:
    """Gate and transform of the carried state."""

    gate: Gate = Gate.scalar
    norm: Norm = Norm.rms
    detach: bool = True
    clip: float = 1.0  # bound on every entry; 0 turns it off
    seed_scale: float = 1.0
    head_init: float = -3.0  # gate logit per head (head only)
    head_lr: float = 5e-4  # (head only)
    input_lr: float = 5e-4  # learning rate of w and b (inputgate only)


@dataclass
class AlphaConfig:
    """Gate logit per layer: start value and learning rate."""

    init: float = -2.0
    lr: float = 0.0  # 0 freezes the gate


@dataclass
class ScheduleConfig:
    """Depth schedule of the strength, from the first seeded layer to the last."""

    kind: ScheduleKind = ScheduleKind.none
    low: float = 1.0
    high: float = 1.0


@dataclass
class ControlConfig:
    """Control arm, mechanism section 4."""

    kind: ControlKind = ControlKind.none
    state_lr: float = 1e-2  # learning rate of the constant state (learned_state only)
