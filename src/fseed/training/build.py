"""From a resolved configuration to the backbone and its gates."""

from pathlib import Path

import torch

from fseed.config.schema import (
    Accelerator,
    ControlKind,
    Mode,
    ModelConfig,
    Precision,
    RunConfig,
)
from fseed.errors import UserError
from fseed.models.checkpoint import empty_model, load_model
from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.initialization import initialize
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed.ops.kernel_backends import ResolvedBackend, resolve_backend
from fseed.tasks.registry import get_task
from fseed.training.objectives import Learner

SIZE_KEYS = tuple(RWKV7Shape.__dataclass_fields__)


def build_learner(config: RunConfig, *, with_weights: bool = True) -> Learner:
    """Build everything of an arm that is trained or carried."""
    model = build_model(config, with_weights=with_weights)
    future_seed = build_future_seed(config, model.shape)
    return Learner(model, future_seed, objective=get_task(config.task.name).objective)


def build_model(config: RunConfig, *, with_weights: bool = True) -> RWKV7:
    """Return the backbone with the numbers of ``model.weights``, else started from ``seed``.

    Without ``with_weights`` it stays empty, on the meta device, where there is a file to read them
    from later.

    Raises:
        UserError: if a size is unset without weights, or differs from that of the weights.
    """
    model = _read_or_initialize(config, with_weights=with_weights)
    if config.trainer.activation_checkpointing:
        model.recompute_layers()
    return model


def _read_or_initialize(config: RunConfig, *, with_weights: bool) -> RWKV7:
    model = config.model
    if model.weights is not None:
        path = Path(model.weights)
        loaded = load_model(path) if with_weights else empty_model(path)
        check_sizes(model, loaded.shape)
        return loaded
    unset = [key for key in SIZE_KEYS if getattr(model, key) is None]
    if unset:
        raise UserError(
            f"model={model.name} has neither weights nor {', '.join(unset)}; "
            "give model.weights=PATH or every size"
        )
    shape = RWKV7Shape(**{key: getattr(model, key) for key in SIZE_KEYS})
    generator = torch.Generator().manual_seed(config.seed)
    return initialize(RWKV7(shape), generator=generator)


def choose_backend(config: RunConfig, shape: RWKV7Shape) -> ResolvedBackend:
    """Check the operators that ``trainer.wkv_backend`` names on the device of the run.

    Raises:
        UserError: where they cannot run or fail their self-check; none is ever replaced.
    """
    trainer = config.trainer
    is_gpu = trainer.accelerator is Accelerator.gpu
    return resolve_backend(
        trainer.wkv_backend.value,
        device=torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device("cpu"),
        precision="bf16" if trainer.precision is Precision.bf16 else "high",
        head_size=shape.head_size,
        num_heads=shape.num_heads,
        batch_size=max(config.budget.batch_size, config.budget.eval_batch_size),
    )


def check_sizes(model: ModelConfig, shape: RWKV7Shape) -> None:
    """Refuse a configured size that contradicts the checkpoint; unset sizes are read off it."""
    wrong = [
        f"model.{key}={wanted} but the weights have {getattr(shape, key)}"
        for key in SIZE_KEYS
        if (wanted := getattr(model, key)) is not None and wanted != getattr(shape, key)
    ]
    if wrong:
        raise UserError("; ".join(wrong) + "; use model=custom to read all sizes off the weights")


def build_future_seed(config: RunConfig, shape: RWKV7Shape) -> FutureSeed | None:
    """Create the gates of the arm; None for ``fs=no_fs``."""
    if config.fs.mode is Mode.no_fs:
        return None
    variant, control = config.fs_variant, config.control.kind
    options = FutureSeedOptions(
        gate=variant.gate.value,
        norm=variant.norm.value,
        detach=variant.detach,
        clip=variant.clip,
        # the A/A arm walks the whole path with nothing at its end
        seed_scale=0.0 if control is ControlKind.aa else variant.seed_scale,
        lstart=config.lstart,
        alpha_init=config.alpha.init,
        head_init=variant.head_init,
        schedule=config.schedule.kind.value,
        schedule_low=config.schedule.low,
        schedule_high=config.schedule.high,
        control=control.value,
    )
    future_seed = FutureSeed(
        options, num_layers=shape.num_layers, num_heads=shape.num_heads, width=shape.width
    )
    if future_seed.learned_state is not None:
        future_seed.learned_state.initialize(seed=config.seed)
    return future_seed
