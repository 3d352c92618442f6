import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from fseed.errors import UserError
from fseed.models.checkpoint_header import read_header, read_shape
from fseed.models.torch_zip import read_torch_zip_header
from tests.models.checkpoint_samples import SHAPE, sample_weights


def test_every_way_to_save_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    linear = nn.Linear(3, 5)
    for content in (
        linear.state_dict(),  # an OrderedDict with metadata
        dict(linear.named_parameters()),  # parameters
        OrderedDict(weight=torch.zeros(3, 5).t(), bias=torch.arange(12.0)[2:12:2]),  # views
    ):
        torch.save(content, path)
        header = read_torch_zip_header(path)
        assert {name: info.shape for name, info in header.items()} == {
            "weight": (5, 3),
            "bias": (5,),
        }


def test_types_and_scalars(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    types = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool)
    torch.save({str(t): torch.zeros((), dtype=t) for t in types}, path)
    header = read_torch_zip_header(path)
    assert {name: f"torch.{info.dtype}" for name, info in header.items()} == {
        str(t): str(t) for t in types
    }
    assert {info.shape for info in header.values()} == {()}


class Touch:
    """Unpickles by creating a file: what a hostile checkpoint does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_nothing_of_the_file_is_executed(tmp_path: Path) -> None:
    path, marker = tmp_path / "w.pth", tmp_path / "marker"
    torch.save({**sample_weights(), "hidden": Touch(marker)}, path)
    with pytest.raises(UserError, match=r"Python object _?io\.open; |Python object .*open"):
        read_header(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {"a": torch.zeros(1)}}, "no tensors: epoch, state_dict"),
        (torch.zeros(3), "holds a TensorInfo"),
        ([1, 2], "holds a list"),
        ({}, "holds a dict"),
        ({"model": nn.Linear(1, 1)}, r"Python object torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        read_header(tmp_path / "w.pth")


def rewrite(source: Path, target: Path, change: dict[str, bytes | None]) -> None:
    """Copy a zip file; change entries by the end of their name, None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data: bytes | None = old.read(info)
            for end, value in change.items():
                data = value if info.filename.endswith(end) else data
            if data is not None:
                new.writestr(info.filename, data)


def test_damaged_archives(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    torch.save(sample_weights(), good)
    for change, message in [
        ({"data/3": None}, "data/3 has 0 bytes"),
        ({"data/3": b"xx"}, "data/3 has 2 bytes"),
        ({"data.pkl": None}, "not one of torch.save"),
        ({"data.pkl": b""}, "is damaged"),
        ({"data.pkl": b"garbage"}, "is damaged"),
        ({"data.pkl": pickle.dumps({"a": 1})}, "no tensors: a"),
    ]:
        rewrite(good, bad, change)
        with pytest.raises(UserError, match=message):
            read_header(bad)
    rewrite(good, bad, {})
    assert read_shape(bad) == vars(SHAPE)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_flipped_byte_is_a_header_or_a_user_error(
    tmp_path: Path, position: float, value: int
) -> None:
    good, bad = tmp_path / "good.pth", tmp_path / "bad.pth"
    if not good.exists():
        torch.save(nn.Linear(2, 2).state_dict(), good)
    with zipfile.ZipFile(good) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        data = bytearray(archive.read(name))
    data[int(position * len(data))] = value
    rewrite(good, bad, {"data.pkl": bytes(data)})
    message = ""
    try:
        header = read_torch_zip_header(bad)
    except UserError as error:
        header, message = {}, str(error)
    # never another exception, and never an empty answer without a reason
    assert header or "bad.pth" in message
