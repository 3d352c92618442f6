"""Checkpoints with their numbers: load any of the three forms, save official files.

Every path is first checked by its header (``checkpoint_header``), so what torch reads here has
the right names, shapes and types, and nothing of a file is ever executed.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fseed.atomic import replacing
from fseed.errors import UserError
from fseed.models.checkpoint_header import (
    find_weight_files,
    is_tied,
    is_zip,
    read_folder_config,
    read_shape,
)
from fseed.models.checkpoint_names import UNUSED_NAMES, Layout, Translation, translate_name
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
    shape = RWKV7Shape(**read_shape(path))
    # every parameter comes from the file: on "meta" none is allocated or initialised first
    with torch.device("meta"):
        model = RWKV7(shape)
    # a copy: tensors of a memory-mapped file must not become parameters
    tensors = {name: t.to(dtype, copy=True) for name, t in _read_tensors(Path(path)).items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    return model


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint in official names, layout and the types of the file.

    The value residual of layer 0, which no implementation reads, is dropped.

    Raises:
        UserError: if the checkpoint is missing, unreadable, incomplete or of another architecture.
    """
    read_shape(path)
    return _read_tensors(Path(path))


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


def _read_tensors(path: Path) -> dict[str, Tensor]:
    raw: dict[str, Tensor] = {}
    for file in find_weight_files(path):
        raw |= _read_file(file)
    tensors: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        translations = translate_name(name)
        if not translations:
            tensors[name] = tensor
        for part in translations:
            tensors[part.name] = _to_official(tensor, part)
    if path.is_dir() and is_tied(read_folder_config(path)):
        tensors.setdefault("head.weight", tensors["emb.weight"])
    return {name: tensor for name, tensor in tensors.items() if name not in UNUSED_NAMES}


def _read_file(path: Path) -> Mapping[str, Tensor]:
    try:
        if is_zip(path):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return load_file(path)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"weights {path} cannot be read: {error}") from error


def _to_official(tensor: Tensor, part: Translation) -> Tensor:
    match part.layout:
        case Layout.same:
            return tensor
        case Layout.transposed:
            return tensor.t().contiguous()
        case Layout.vector:
            return tensor.reshape(1, 1, -1)
        case Layout.packed_row:
            return tensor.reshape(6, -1)[part.row].reshape(1, 1, -1)
