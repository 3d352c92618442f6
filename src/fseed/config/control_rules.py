"""What must hold for a control arm, and where batch mates matter."""

import math

from fseed.config.schema import ControlKind, Mode, RunConfig
from fseed.errors import UserError

# they put another state in the place of an arm's own, so there has to be an arm
ALTERING_CONTROLS = (
    *(ControlKind.aa, ControlKind.shuffled_state, ControlKind.random_state),
    *(ControlKind.learned_state, ControlKind.same_layer),
)


def check_control(config: RunConfig) -> None:
    """Raise UserError for a control that would control nothing; needs no number of layers."""
    kind, mode = config.control.kind, config.fs.mode
    if kind is ControlKind.repeat_prompt and mode is not Mode.no_fs:
        raise UserError("control=repeat_prompt runs without Future-Seed: fs.mode must be no_fs")
    if kind not in ALTERING_CONTROLS:
        return
    if mode is Mode.no_fs:
        raise UserError(
            f"control={kind.value} alters a Future-Seed arm, and fs=no_fs is none; "
            "choose a preset, for example fs=scalar_l10"
        )
    if kind is not ControlKind.aa and config.fs_variant.seed_scale == 0:
        raise UserError(
            f"control={kind.value} with fs_variant.seed_scale=0 is a no-op arm; use control=aa"
        )
    if kind is ControlKind.shuffled_state:
        _check_batch_mates(config)


def check_control_layers(config: RunConfig) -> None:
    """Raise UserError for a control of an arm that seeds no layer (fs.allow_noop)."""
    kind, num_layers = config.control.kind, config.model.num_layers
    assert num_layers is not None
    if kind is ControlKind.aa or kind not in ALTERING_CONTROLS or config.lstart < num_layers:
        return
    raise UserError(
        f"control={kind.value} alters what seeded layers start from, and lstart={config.lstart} "
        f"seeds none of {num_layers}; use control=aa"
    )


def check_micro_batch(config: RunConfig) -> None:
    """Raise UserError for micro-batches that do not add up to the batch."""
    size, batch_size = config.trainer.micro_batch_size, config.budget.batch_size
    if size is None or size == batch_size:
        return
    if size > batch_size:
        raise UserError(
            f"trainer.micro_batch_size={size} is more than budget.batch_size={batch_size}; "
            "null takes the whole batch"
        )
    if config.control.kind is ControlKind.shuffled_state and smallest_part(batch_size, size) < 2:
        raise UserError(
            "control=shuffled_state takes the state of another sample of the batch, and "
            f"trainer.micro_batch_size={size} leaves a sample of budget.batch_size={batch_size} "
            "alone; use a larger one, or null"
        )


def smallest_part(batch_size: int, size: int) -> int:
    """Return the samples of the smallest of equal parts, at most ``size`` each, of a batch."""
    return batch_size // math.ceil(batch_size / size)


def _check_batch_mates(config: RunConfig) -> None:
    budget, data = config.budget, config.data
    sizes = {
        "budget.batch_size": budget.batch_size,
        "budget.eval_batch_size": budget.eval_batch_size,
        "data.num_validation": data.num_validation,
    }
    if budget.test:
        sizes["data.num_test"] = data.num_test
    for key, size in sizes.items():
        if size < 2:
            raise UserError(
                "control=shuffled_state takes the state of another sample of the batch: "
                f"{key}={size} must be at least 2"
            )
        if key.startswith("data.") and budget.eval_batch_size == 2 and size % 2:
            raise UserError(
                "control=shuffled_state takes the state of another sample of the batch: "
                f"budget.eval_batch_size=2 leaves one of {key}={size} alone; give another size"
            )
