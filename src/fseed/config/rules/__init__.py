"""What must hold between the values of a configuration, beyond their types.

One module per subject, named as in ``config/schema``; ``ranges`` of single values, ``advice`` on
what is legal and does nothing.
"""

from fseed.config.rules.advice import notes
from fseed.config.rules.future_seed import check_control, check_control_layers, check_lstart
from fseed.config.rules.model import check_sizes, check_vocabulary, check_weights
from fseed.config.rules.output import check_logger
from fseed.config.rules.ranges import MAX_SEED, RANGES, check_range, leaves
from fseed.config.rules.task import check_lengths, check_source
from fseed.config.rules.training import (
    check_backend,
    check_batch,
    check_budget,
    check_devices,
    check_micro_batch,
    check_step,
    smallest_part,
)
from fseed.config.schema import RunConfig

__all__ = [
    "MAX_SEED",
    "RANGES",
    "check_model",
    "check_values",
    "leaves",
    "notes",
    "smallest_part",
]


def check_values(config: RunConfig) -> None:
    """Raise UserError unless every value is in its range and the values fit each other.

    Rules that need the number of layers are in ``check_model``.
    """
    for key, value in leaves(config):
        check_range(key, value)
    check_budget(config)
    check_batch(config)
    check_lengths(config)
    check_source(config)
    check_weights(config)
    check_control(config)
    check_micro_batch(config)
    check_devices(config)
    check_backend(config)
    check_step(config)
    check_logger(config)


def check_model(config: RunConfig) -> None:
    """Raise UserError unless the sizes are complete and ``lstart`` names a seeded layer."""
    check_sizes(config)
    check_vocabulary(config)
    check_lstart(config)
    check_control_layers(config)
