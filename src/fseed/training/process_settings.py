"""What the set-up of a trainer changes in its process, and how it is put back.

``prepare_torch`` and Lightning set them for a run that ends with its process; whoever trains on the
side, as the memory probe does, takes them back.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FLAGS: tuple[tuple[Any, str], ...] = (
    (torch.utils.deterministic, "fill_uninitialized_memory"),
    (torch.backends.cudnn, "benchmark"),
)
_ENVIRONMENT = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER")
_LOGGER = "lightning.pytorch"


@contextmanager
def restored_settings() -> Iterator[None]:
    """Put back random state, threads, determinism, device, environment, warnings and log level."""
    flags = [(owner, name, getattr(owner, name)) for owner, name in _FLAGS]
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    threads, level = torch.get_num_threads(), logging.getLogger(_LOGGER).level
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # a device that was never asked for is not asked for here
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    with torch.random.fork_rng(), warnings.catch_warnings():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            for owner, name, value in flags:
                setattr(owner, name, value)
            if device is not None:
                torch.cuda.set_device(device)
            logging.getLogger(_LOGGER).setLevel(level)
            _restore_environment(environment)


def _restore_environment(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
