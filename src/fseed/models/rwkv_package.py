"""The PyPI package ``rwkv`` as an oracle: the official inference code, float32 on the CPU.

Its import reads environment variables, prints, and changes global settings of torch; here all
three are undone. It reads ``.pth`` files only, so weights pass through a temporary one.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.models.trace import Trace

HEAD_SIZE = 64  # the package fixes the epsilon of its group norm to that of this head size

_CHANGED_SETTINGS: tuple[tuple[Any, str], ...] = (
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_tf32"),
)
_ENVIRONMENT = {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}


class RwkvPackage:
    """One model in the ``rwkv`` package."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Load tensors in official names.

        Raises:
            UserError: if the package is not installed.
        """
        with TemporaryDirectory(prefix="fseed-parity-") as folder, _undoing_side_effects():
            torch.save(dict(weights), Path(folder) / "weights.pth")
            # the package appends .pth itself
            self._model = _model_class()(str(Path(folder) / "weights"), "cpu fp32")

    def read_prompt(self, tokens: Sequence[int]) -> Trace:
        """Read at least two tokens in one pass (one token takes the package's step path)."""
        with _undoing_side_effects():
            logits, state = self._model.forward(list(tokens), None, full_output=True)
        return _trace(logits, state)

    def read_steps(self, tokens: Sequence[int]) -> Trace:
        """Read the tokens one at a time."""
        logits, state = [], None
        with _undoing_side_effects():
            for token in tokens:
                step_logits, state = self._model.forward([token], state)
                logits.append(step_logits)
        assert state is not None
        return _trace(torch.stack(logits), state)


def package_name() -> str:
    """Return name and version of the oracle."""
    return f"rwkv {version('rwkv')}"


def _trace(logits: Tensor, state: list[Tensor]) -> Trace:
    # three entries per layer: previous ln1 output, state with row = value, previous ln2 output
    att_shift, wkv, ffn_shift = (torch.stack(state[i::3]) for i in range(3))
    return Trace(logits.double(), att_shift.double(), wkv.double(), ffn_shift.double())


@cache
def _model_class() -> Any:
    if find_spec("rwkv") is None:
        raise UserError(
            "the parity gate compares with the rwkv package, which is not installed\n"
            "pip install 'fseed[world]'"
        )
    module = import_module("rwkv.model")
    if module.RWKV.__name__ != "RWKV_x070":
        raise UserError(
            "rwkv.model was imported before without RWKV_V7_ON=1, so it has no RWKV-7\n"
            "run the parity gate in a fresh process"
        )
    return module.RWKV


@contextmanager
def _undoing_side_effects() -> Iterator[None]:
    settings = [(owner, name, getattr(owner, name)) for owner, name in _CHANGED_SETTINGS]
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            # the package compiles itself with the deprecated TorchScript
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for owner, name, setting in settings:
            setattr(owner, name, setting)
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
