"""The backbone and its tokenizer: section ``model``."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class TokenizerKind(Enum):
    """Byte vocabulary (256 ids) or the RWKV World vocabulary (65,536 ids)."""

    byte = "byte"
    world = "world"


@dataclass
class ModelConfig:
    """Backbone: a checkpoint, or a shape that is initialised from the seed."""

    name: str = MISSING
    weights: str | None = None  # official .pth, safetensors or a Hugging Face folder
    needs_weights: bool = False  # null weights are an error, not a random start
    tokenizer: TokenizerKind = MISSING
    vocab_file: str | None = None  # World vocabulary; null: the copy in the rwkv package
    num_layers: int | None = None  # null with weights: read off the checkpoint
    width: int | None = None  # C
    head_size: int | None = None  # N: 16, 32 or 64
    ffn_width: int | None = None
    decay_rank: int | None = None
    in_context_rank: int | None = None
    value_rank: int | None = None
    gate_rank: int | None = None
    vocab_size: int | None = None
    allow_above_uniform: bool = False  # train from weights worse than a uniform guess
