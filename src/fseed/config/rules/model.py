"""Rules of the backbone: weights, sizes, vocabulary."""

from dataclasses import fields

from fseed.config.schema import RunConfig, TokenizerKind
from fseed.errors import UserError

VOCABULARY_SIZES = {TokenizerKind.byte: 256, TokenizerKind.world: 65536}

_SIZES = (
    *("num_layers", "width", "head_size", "ffn_width", "decay_rank", "in_context_rank"),
    *("value_rank", "gate_rank", "vocab_size"),
)


def check_weights(config: RunConfig) -> None:
    """Raise UserError for weights that are missing, named twice, or given no use."""
    model = config.model
    if config.weights is not None and model.weights != config.weights:
        raise UserError(
            f"weights={config.weights} and model.weights={model.weights} disagree; give one of them"
        )
    if model.needs_weights and model.weights is None:
        raise UserError(
            f"model={model.name} needs weights=PATH (.pth, .safetensors or a Hugging Face folder)"
        )
    if model.vocab_file is not None and model.tokenizer is TokenizerKind.byte:
        raise UserError(f"model.vocab_file={model.vocab_file} has no use with the byte tokenizer")


def check_sizes(config: RunConfig) -> None:
    """Raise UserError unless every size is known."""
    missing = [
        field.name
        for field in fields(config.model)
        if field.name in _SIZES and getattr(config.model, field.name) is None
    ]
    if missing:
        raise UserError(
            f"model={config.model.name} does not say {', '.join(f'model.{m}' for m in missing)}; "
            "give them, or weights=PATH to read them off"
        )


def check_vocabulary(config: RunConfig) -> None:
    """Raise UserError for a vocabulary that is smaller than that of the tokenizer."""
    kind, size = config.model.tokenizer, config.model.vocab_size
    needed = VOCABULARY_SIZES[kind]
    if size is None or size < needed:
        raise UserError(
            f"model.tokenizer={kind.value} has {needed} ids, model.vocab_size={size}; "
            "choose the tokenizer that the weights were trained with"
        )
