"""The tensors of a checkpoint one after the other, mapped from the file and never kept."""

import ctypes
import mmap
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fseed.errors import UserError
from fseed.models.checkpoint_header import find_weight_files, is_tied, is_zip, read_folder_config
from fseed.models.checkpoint_names import UNUSED_NAMES, Layout, Translation, translate_name

_MADV_DONTNEED = 4  # Linux


def stream_tensors(path: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a checkpoint in official names, layout and the types of the file.

    A tensor holds until the next one is asked for. The value residual of layer 0, which no
    implementation reads, is dropped. A tied head is the embedding, unless there is one of its own.

    Raises:
        UserError: if a file cannot be read.
    """
    path, has_head = Path(path), False
    for name, tensor in _stream_official(path):
        has_head = has_head or name == "head.weight"
        yield name, tensor
    if not has_head and path.is_dir() and is_tied(read_folder_config(path)):
        for name, tensor in _stream_official(path):
            if name == "emb.weight":
                yield "head.weight", tensor
                return


def _stream_official(path: Path) -> Iterator[tuple[str, Tensor]]:
    for file in find_weight_files(path):
        for raw_name, raw in _open_tensors(file):
            for name, tensor in _translate(raw_name, raw):
                if name not in UNUSED_NAMES:
                    yield name, tensor
            give_back_pages(raw)


def put_parameter(module: nn.Module, name: str, tensor: Tensor, *, dtype: torch.dtype) -> None:
    """Replace the parameter ``name`` by a copy of ``tensor`` as ``dtype``, or by its own part."""
    owner, _, leaf = name.rpartition(".")
    place = module.get_submodule(owner)
    old = place.get_parameter(leaf)
    if hasattr(old, "full_tensor"):
        tensor = _own_part(old, tensor)
    # a copy: tensors of a mapped file must not become parameters
    place.load_state_dict({leaf: tensor.to(dtype, copy=True)}, strict=False, assign=True)


def _own_part(sharded: Tensor, tensor: Tensor) -> Tensor:
    """Return the part of ``tensor`` that this rank holds of ``sharded``; nothing is sent."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(sharded, DTensor)
    mesh = sharded.device_mesh
    # every rank reads the file itself
    return distribute_tensor(tensor, mesh, sharded.placements, src_data_rank=None)


def give_back_pages(tensor: Tensor) -> None:
    """Let the system forget the pages of a mapped tensor that nobody reads again.

    They would count as memory of this process until the file is closed.
    """
    if sys.platform != "linux":
        return
    start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    # whole pages only: a neighbour's numbers may share the first and the last
    begin = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if tensor.is_contiguous() and end > begin:
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


def _open_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        if is_zip(path):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            yield from content.items()
            return
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no dict)
                yield name, file.get_tensor(name)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(f"weights {path} cannot be read: {error}") from error


def _translate(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    translations = translate_name(name)
    if not translations:
        yield name, tensor
    for part in translations:
        yield part.name, _to_official(tensor, part)


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
