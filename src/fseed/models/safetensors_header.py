"""The header of a safetensors file: eight bytes of length, JSON, then the numbers.

Format: https://github.com/huggingface/safetensors#format
"""

import json
import math
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.models.checkpoint_shape import Header, TensorInfo

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library

# the types of the format whose size in bytes is known; others are named in the error
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_LONG_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def read_safetensors_header(path: Path) -> Header:
    """Return shape and type of every tensor.

    Raises:
        UserError: if the file is no safetensors file, or shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise UserError(f"weights {path} is not a safetensors file: its header is too long")
        if length > size - 8:
            raise UserError(_truncated(path, found=size, wanted=length + 8))
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        header = {name: _parse_entry(entry) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise UserError(f"weights {path} has a damaged safetensors header: {error!r}") from error
    if size != 8 + length + end:
        if size < 8 + length + end:
            raise UserError(_truncated(path, found=size, wanted=8 + length + end))
        raise UserError(f"weights {path} is damaged: {size - 8 - length - end} bytes too many")
    return header


def _truncated(path: Path, *, found: int, wanted: int) -> str:
    return (
        f"weights {path} is truncated: {found:,} bytes of at least {wanted:,}\n"
        "copy or download it again"
    )


def _parse_entry(entry: dict[str, Any]) -> TensorInfo:
    dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    begin, end = entry["data_offsets"]
    item = _ITEM_BYTES.get(dtype)
    if item is not None and end - begin != item * math.prod(shape):
        raise ValueError(f"{end - begin} bytes for the shape {shape} of {dtype}")
    return TensorInfo(shape, _LONG_NAMES.get(dtype, dtype))
