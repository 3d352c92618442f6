"""Shapes and types in an official ``.pth``: the zip format of ``torch.save``, read without torch.

The archive holds ``data.pkl``, the state dict whose numbers are references to the records
``data/0``, ``data/1``, ... A pickle can name any function to be called; here only the few names
that a plain state dict needs exist, each bound to a function of this file, and everything else is
an error. So nothing of the file is ever executed.
"""

import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.models.checkpoint_shape import Header, TensorInfo

MAX_PICKLE_BYTES = 64 * 2**20  # a state dict of 10,000 tensors takes about 1 MiB

_STORAGE_TYPES = {
    "FloatStorage": ("float32", 4), "BFloat16Storage": ("bfloat16", 2),
    "HalfStorage": ("float16", 2), "DoubleStorage": ("float64", 8), "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4), "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip


# a damaged pickle can raise nearly anything on its way through the unpickler
_DAMAGE = (
    pickle.UnpicklingError, zlib.error, ValueError, TypeError, KeyError, IndexError,
    AttributeError, EOFError, OverflowError, MemoryError, RecursionError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class _StorageType:
    dtype: str
    item_bytes: int


@dataclass(frozen=True)
class _Storage:
    dtype: str
    num_items: int


class _Refused(Exception):
    """The archive is not the plain state dict that it should be; says why."""


def read_torch_zip_header(path: Path) -> Header:
    """Return shape and type of every tensor of the state dict in ``path``.

    Raises:
        UserError: if the archive is truncated or damaged, or holds anything but named tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = _read_pickle(archive)
    except _Refused as error:
        raise UserError(f"weights {path} {error}") from error
    except zipfile.BadZipFile as error:
        raise UserError(
            f"weights {path} is truncated or damaged: {error}\ncopy or download it again"
        ) from error
    except _DAMAGE as error:
        raise UserError(f"weights {path} is damaged: {error!r}") from error
    return _check_content(content, path=path)


def _read_pickle(archive: zipfile.ZipFile) -> object:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    names = [name for name in sizes if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(names) != 1:
        raise _Refused("is a zip file, but not one of torch.save (no data.pkl)")
    if sizes[names[0]] > MAX_PICKLE_BYTES:
        raise _Refused("is not a plain state dict: data.pkl is too large")
    root = names[0].removesuffix("data.pkl")
    return _ShapeUnpickler(archive.read(names[0]), root=root, record_sizes=sizes).load()


def _check_content(content: object, *, path: Path) -> Header:
    if not isinstance(content, dict) or not content:
        raise UserError(f"weights {path} is not a state dict: it holds a {type(content).__name__}")
    others = [str(name) for name, value in content.items() if not isinstance(value, TensorInfo)]
    if others:
        raise UserError(
            f"weights {path} is not a plain state dict: these entries are no tensors:"
            f" {', '.join(others)}\nsave the state dict of the model alone"
        )
    return {str(name): value for name, value in content.items()}


class _ShapeUnpickler(pickle.Unpickler):
    """Builds ``TensorInfo`` where torch would build tensors."""

    def __init__(self, data: bytes, *, root: str, record_sizes: dict[str, int]) -> None:
        super().__init__(BytesIO(data))
        self._root, self._record_sizes = root, record_sizes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _STORAGE_TYPES:
            return _StorageType(*_STORAGE_TYPES[name])
        raise _Refused(
            f"is not a plain state dict: it contains the Python object {module}.{name},"
            " and only tensors are read"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Check the record that holds the numbers of one storage."""
        kind, storage_type, key, _, num_items = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise _Refused("is damaged: it refers to something that is not a tensor's storage")
        record = f"{self._root}data/{key}"
        wanted, found = storage_type.item_bytes * num_items, self._record_sizes.get(record)
        if found is None or found < wanted:
            raise _Refused(f"is damaged: {record} has {found or 0} bytes, not {wanted}")
        return _Storage(storage_type.dtype, num_items)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> TensorInfo:
    steps = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    last = offset + steps if math.prod(shape) > 0 else 0
    if offset < 0 or min(stride, default=0) < 0 or last >= max(1, storage.num_items):
        raise _Refused(f"is damaged: a tensor of shape {tuple(shape)} reaches outside its storage")
    return TensorInfo(tuple(int(size) for size in shape), storage.dtype)


def _rebuild_parameter(data: TensorInfo, *_: object) -> TensorInfo:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}
