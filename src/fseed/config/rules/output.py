"""Rules of what is told beside the records."""

from importlib.util import find_spec

from fseed.config.schema import LoggerKind, RunConfig
from fseed.errors import UserError


def check_logger(config: RunConfig) -> None:
    """Raise UserError for a tracker whose package is not installed."""
    kind = config.logger.kind
    if kind is LoggerKind.tensorboard and find_spec("tensorboard") is None:
        raise UserError(
            "logger=tensorboard needs the package tensorboard, which is not installed; "
            "install fseed[track] or use logger=none"
        )
