"""What must hold between the values of a configuration, beyond their types."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from typing import Any

from fseed.config.control_rules import (
    check_control,
    check_control_layers,
    check_micro_batch,
)
from fseed.config.schema import (
    Accelerator,
    Backend,
    Gate,
    LoggerKind,
    Mode,
    Norm,
    Precision,
    RunConfig,
    SourceKind,
    TokenizerKind,
)
from fseed.errors import UserError

VOCABULARY_SIZES = {TokenizerKind.byte: 256, TokenizerKind.world: 65536}

# the generated rows are kept in memory
MAX_MINI_EXAMPLES = 100_000

CUDA_HEAD_SIZE = 64  # the only one of wkv_backend=cuda

# numpy and Lightning take seeds of 32 bits
MAX_SEED = 2**32 - 1

Rule = tuple[Callable[[Any], bool], str]

_POSITIVE: Rule = (lambda value: value > 0, "must be above 0")
_NOT_NEGATIVE: Rule = (lambda value: value >= 0, "must be 0 or more")
_FRACTION: Rule = (lambda value: 0 <= value < 1, "must be at least 0 and below 1")
_SEED: Rule = (lambda value: 0 <= value <= MAX_SEED, f"must be 0 .. {MAX_SEED}")
_FOLDER_NAME: Rule = (
    lambda value: re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", value) is not None,
    'is a folder name: letters, digits, "." "_" "-"',
)

# ranges of single values; null passes where the schema allows it
RANGES: dict[str, Rule] = {
    "seed": _SEED,
    "data.seed": _SEED,
    "data.num_train": _POSITIVE,
    "data.num_validation": _POSITIVE,
    "data.num_test": _NOT_NEGATIVE,
    "task.max_length_tokens": _POSITIVE,
    "task.max_answer_tokens": _POSITIVE,
    "budget.steps": _POSITIVE,
    "budget.tokens": _POSITIVE,
    "budget.batch_size": _POSITIVE,
    "budget.eval_batch_size": _POSITIVE,
    "budget.eval_every_steps": _POSITIVE,
    "budget.checkpoint_every_steps": _POSITIVE,
    "optim.lr": _POSITIVE,
    "optim.beta1": _FRACTION,
    "optim.beta2": _FRACTION,
    "optim.eps": _POSITIVE,
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.grad_clip": _NOT_NEGATIVE,
    "optim.warmup_steps": _NOT_NEGATIVE,
    "optim.decay_lr_multiplier": _POSITIVE,
    "trainer.micro_batch_size": _POSITIVE,
    "trainer.num_threads": _POSITIVE,
    "control.state_lr": _POSITIVE,
    "optim.task_head_lr": _POSITIVE,
    "mbpp.num_samples": _NOT_NEGATIVE,
    "mbpp.temperature": _POSITIVE,
    "mbpp.top_p": (lambda value: 0 < value <= 1, "must be above 0 and at most 1"),
    "mbpp.timeout_seconds": _POSITIVE,
    "mbpp.memory_mib": (lambda value: value >= 128, "must be at least 128"),
    "alpha.lr": _NOT_NEGATIVE,
    "fs_variant.clip": _NOT_NEGATIVE,
    "fs_variant.seed_scale": _NOT_NEGATIVE,
    "fs_variant.head_lr": _NOT_NEGATIVE,
    "fs_variant.input_lr": _NOT_NEGATIVE,
    "sweep.name": _FOLDER_NAME,
    "sweep.stage": _FOLDER_NAME,
}


PRETRAINED_LR = 1e-4  # above it, an update is meant for random weights


def check_values(config: RunConfig) -> None:
    """Raise UserError unless every value is in its range and the values fit each other.

    Rules that need the number of layers are in ``check_model``.
    """
    for key, value in leaves(config):
        _check_value(key, value)
    _check_budget(config)
    _check_batch(config)
    _check_lengths(config)
    _check_source(config)
    _check_weights(config)
    check_control(config)
    check_micro_batch(config)
    _check_backend(config)
    _check_logger(config)


def check_model(config: RunConfig) -> None:
    """Raise UserError unless the sizes are complete and ``lstart`` names a seeded layer."""
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
    _check_vocabulary(config)
    _check_lstart(config)
    check_control_layers(config)


def notes(config: RunConfig) -> list[str]:
    """Return one line for each option that is legal but cannot do what it says."""
    found = []
    if config.fs.mode is Mode.prompt_fs:
        found += _clip_note(config) + _raw_note(config)
    return found + _learning_rate_note(config)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a configuration with its value."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


_SIZES = (
    *("num_layers", "width", "head_size", "ffn_width", "decay_rank", "in_context_rank"),
    *("value_rank", "gate_rank", "vocab_size"),
)


def _check_value(key: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    holds, allowed = RANGES.get(key, (None, ""))
    if holds is not None and value is not None and not holds(value):
        raise UserError(f"{key}={value}: {allowed}")


def _check_budget(config: RunConfig) -> None:
    steps, tokens = config.budget.steps, config.budget.tokens
    if (steps is None) == (tokens is None):
        given = "neither is set" if steps is None else f"steps={steps} and tokens={tokens}"
        raise UserError(
            f"budget: exactly one of steps and tokens counts, {given}\n"
            "write budget.steps=N, or budget.tokens=N budget.steps=null"
        )
    if config.budget.test and config.data.num_test == 0:
        raise UserError("budget.test=true scores the test split, and data.num_test=0; raise it")


def _check_batch(config: RunConfig) -> None:
    batch_size, num_train = config.budget.batch_size, config.data.num_train
    if batch_size > num_train:
        raise UserError(
            f"budget.batch_size={batch_size} is more than data.num_train={num_train}; "
            "lower the one or raise the other"
        )


def _check_lengths(config: RunConfig) -> None:
    longest, answer = config.task.max_length_tokens, config.task.max_answer_tokens
    if answer + 1 >= longest:
        raise UserError(
            f"task.max_answer_tokens={answer} leaves no room for a prompt within "
            f"task.max_length_tokens={longest}"
        )


def _check_source(config: RunConfig) -> None:
    if config.data.source is SourceKind.local and config.data.root is None:
        raise UserError("data=local needs data.root=FOLDER, with one subfolder per data set")
    for name in ("num_train", "num_validation", "num_test"):
        number = getattr(config.data, name)
        if config.data.source is SourceKind.mini and number > MAX_MINI_EXAMPLES:
            raise UserError(f"data.{name}={number}: data=mini gives at most {MAX_MINI_EXAMPLES}")


def _check_weights(config: RunConfig) -> None:
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


def _check_backend(config: RunConfig) -> None:
    trainer, backend = config.trainer, config.trainer.wkv_backend
    if backend not in (Backend.triton, Backend.cuda):
        return
    asked = f"trainer.wkv_backend={backend.value}"
    if trainer.accelerator is not Accelerator.gpu:
        raise UserError(f"{asked} needs a GPU; choose trainer=bf16 or trainer=gpu, or use chunked")
    if find_spec("triton") is None:
        raise UserError(
            f"{asked} needs the package triton, which is not installed; "
            "install fseed[kernels] or use chunked"
        )
    if backend is Backend.cuda and find_spec("cuda") is None:
        raise UserError(
            f"{asked} needs the package cuda-bindings, which is not installed; "
            "install fseed[kernels] or use triton"
        )
    if backend is Backend.cuda and trainer.precision is not Precision.bf16:
        raise UserError(
            f"{asked} computes in bf16, trainer.precision={trainer.precision.value}; "
            "choose trainer=bf16, or use triton"
        )
    head_size = config.model.head_size
    if backend is Backend.cuda and head_size not in (None, CUDA_HEAD_SIZE):
        raise UserError(
            f"{asked} has head size {CUDA_HEAD_SIZE}, model.head_size={head_size}; use triton"
        )


def _check_logger(config: RunConfig) -> None:
    kind = config.logger.kind
    if kind is LoggerKind.tensorboard and find_spec("tensorboard") is None:
        raise UserError(
            "logger=tensorboard needs the package tensorboard, which is not installed; "
            "install fseed[track] or use logger=none"
        )


def _check_vocabulary(config: RunConfig) -> None:
    kind, size = config.model.tokenizer, config.model.vocab_size
    needed = VOCABULARY_SIZES[kind]
    if size is None or size < needed:
        raise UserError(
            f"model.tokenizer={kind.value} has {needed} ids, model.vocab_size={size}; "
            "choose the tokenizer that the weights were trained with"
        )


def _check_lstart(config: RunConfig) -> None:
    if config.fs.mode is Mode.no_fs:
        return
    num_layers = config.model.num_layers
    assert num_layers is not None
    allowed = f"1 .. {num_layers - 1}"
    if config.lstart < 1:
        raise UserError(
            f"lstart={config.lstart}: layer 0 has no layer below it; the first seeded layer is "
            f"{allowed}"
        )
    if config.lstart >= num_layers and not config.fs.allow_noop:
        raise UserError(
            f"lstart={config.lstart} seeds no layer of {num_layers} (numbered from 0): allowed "
            f"{allowed}\nfs.allow_noop=true makes it a deliberate no-op arm"
        )


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
