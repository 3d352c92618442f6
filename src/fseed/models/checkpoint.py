"""Checkpoints with their numbers: load any of the three forms, save official files.

Every path is first checked by its header (``checkpoint_header``), so what torch reads here has
the right names, shapes and types, and nothing of a file is ever executed.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fseed.atomic import replacing
from fseed.errors import UserError
from fseed.models.checkpoint_header import read_shape
from fseed.models.checkpoint_stream import put_parameter, stream_tensors
from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape

GATES_SUFFIX = ".future_seed.safetensors"
TASK_HEAD_SUFFIX = ".task_head.safetensors"


def load_model(path: str | Path, *, dtype: torch.dtype = torch.float32) -> RWKV7:
    """Return the backbone of a checkpoint with its parameters in ``dtype``, on the CPU.

    Raises:
        UserError: if the checkpoint is missing, unreadable, incomplete or of another architecture.
    """
    model = empty_model(path)
    fill_model(model, path, dtype=dtype)
    return model


def empty_model(path: str | Path) -> RWKV7:
    """Return the backbone of a checkpoint without its numbers, on the meta device.

    Raises:
        UserError: as ``load_model``.
    """
    shape = RWKV7Shape(**read_shape(path))
    with torch.device("meta"):
        return RWKV7(shape)


def fill_model(model: RWKV7, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Give an empty model the numbers of a checkpoint, one tensor after the other.

    The file is mapped, and its pages are given back tensor by tensor: at no time does the process
    hold more than the parameters and one tensor. A parameter that is sharded (FSDP2) gets the part
    of this rank.
    """
    missing = set(model.state_dict())
    for name, tensor in stream_tensors(path):
        missing.discard(name)
        put_parameter(model, name, tensor, dtype=dtype)
    assert not missing, missing  # the header was checked before


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint in official names, layout and the types of the file.

    The value residual of layer 0, which no implementation reads, is dropped.

    Raises:
        UserError: if the checkpoint is missing, unreadable, incomplete or of another architecture.
    """
    read_shape(path)
    return {name: tensor.clone() for name, tensor in stream_tensors(path)}


def save_pth(model: nn.Module, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write the official ``.pth`` form, which the ``rwkv`` package and the official code load."""
    with _saving(Path(path)) as temporary, temporary.open("wb") as file:
        torch.save(_plain_tensors(model, dtype=dtype), file)


def save_safetensors(
    model: nn.Module, path: str | Path, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write safetensors with the official names."""
    with _saving(Path(path)) as temporary:
        save_file(_plain_tensors(model, dtype=dtype), temporary, metadata={"format": "pt"})


def gates_path(weights_path: str | Path) -> Path:
    """Return where the gates of the weights at ``weights_path`` stand."""
    path = Path(weights_path)
    return path.with_name(path.stem + GATES_SUFFIX)


def save_future_seed(future_seed: FutureSeed, weights_path: str | Path) -> Path:
    """Write the gate parameters (float32) and their options beside the weights."""
    path = gates_path(weights_path)
    options = {"options": json.dumps(asdict(future_seed.options))}
    with _saving(path) as temporary:
        save_file(_plain_tensors(future_seed, dtype=torch.float32), temporary, metadata=options)
    return path


def save_task_head(task_head: nn.Module, weights_path: str | Path) -> Path:
    """Write the task head (mask embedding, projection) as float32 beside the weights."""
    path = Path(weights_path)
    path = path.with_name(path.stem + TASK_HEAD_SUFFIX)
    with _saving(path) as temporary:
        save_file(_plain_tensors(task_head, dtype=torch.float32), temporary)
    return path


def load_future_seed(weights_path: str | Path, *, shape: RWKV7Shape) -> FutureSeed:
    """Return the gates saved beside the weights, for a backbone of ``shape``.

    Raises:
        UserError: if there are none, or they belong to a backbone of another shape.
    """
    path = gates_path(weights_path)
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})["options"])
            if told.pop("shuffle_states", False):  # until version 0.1.0 had more controls
                told["control"] = "shuffled_state"
            options = FutureSeedOptions(**told)
        future_seed = FutureSeed(
            options, num_layers=shape.num_layers, num_heads=shape.num_heads, width=shape.width
        )
        future_seed.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError as error:
        raise UserError(f"gates {path}: no such file; these weights were saved alone") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise UserError(f"gates {path} do not fit these weights: {error}") from error
    return future_seed


def _saving(path: Path):
    """Replace ``path`` as a whole; an unwritable folder is the user's to mend."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return replacing(path)


def _plain_tensors(module: nn.Module, *, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return contiguous CPU copies, so that no file carries a shared or larger storage."""
    return {
        name: tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in module.state_dict().items()
    }
