import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fseed.errors import UserError
from fseed.models.safetensors_header import read_safetensors_header


def write(path: Path, header: Any, *, num_bytes: int = 0) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(num_bytes))
    return path


def entry(shape: list[int], dtype: str = "F32", *, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def test_shapes_types_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros((), dtype=torch.bfloat16),
        "c": torch.zeros(0, 4, dtype=torch.int8),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_safetensors_header(path)
    assert header == {"a": ((2, 3), "float32"), "b": ((), "bfloat16"), "c": ((0, 4), "I8")}


def test_size_of_the_file_must_fit(tmp_path: Path) -> None:
    header = {"a": entry([2], end=8)}
    assert read_safetensors_header(write(tmp_path / "w", header, num_bytes=8)) == {
        "a": ((2,), "float32")
    }
    with pytest.raises(UserError, match="truncated"):
        read_safetensors_header(write(tmp_path / "w", header, num_bytes=7))
    with pytest.raises(UserError, match="1 bytes too many"):
        read_safetensors_header(write(tmp_path / "w", header, num_bytes=9))


@pytest.mark.parametrize(
    "header",
    [
        [],
        "text",
        {"a": 1},
        {"a": {"dtype": "F32"}},
        {"a": entry([3], end=8)},
        {"a": entry(["x"], end=8)},
        {"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": "xy"}},
    ],
)
def test_damaged_header(tmp_path: Path, header: Any) -> None:
    with pytest.raises(UserError, match="damaged safetensors header"):
        read_safetensors_header(write(tmp_path / "w", header, num_bytes=8))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_flipped_byte_is_a_header_or_a_user_error(
    tmp_path: Path, position: float, value: int
) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, path)
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] = value
    path.write_bytes(data)
    message = ""
    try:
        header = read_safetensors_header(path)
    except UserError as error:
        header, message = {}, str(error)
    assert header or "w.safetensors" in message
