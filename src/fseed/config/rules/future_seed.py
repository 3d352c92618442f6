"""Rules of an arm: its first seeded layer, its control, and batch mates where they matter."""

from fseed.config.schema import ControlKind, Mode, RunConfig
from fseed.errors import UserError

# they put another state in the place of an arm's own, so there has to be an arm
ALTERING_CONTROLS = (
    *(ControlKind.aa, ControlKind.shuffled_state, ControlKind.random_state),
    *(ControlKind.learned_state, ControlKind.same_layer),
)


def check_lstart(config: RunConfig) -> None:
    """Raise UserError unless ``lstart`` names a layer that can be seeded."""
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
