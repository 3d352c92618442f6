"""Large checkpoints: mapped, converted tensor by tensor, never held beside their parameters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fseed.models.checkpoint import load_model, load_state_dict, save_pth, save_safetensors
from fseed.models.checkpoint_stream import give_back_pages
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from tests.models.build import build_random_model
from tests.models.large_file import LARGE, write_sparse

MEDIUM = RWKV7Shape(
    **(vars(LARGE) | {"num_layers": 12, "width": 512, "ffn_width": 2048, "vocab_size": 8192})
)
ROOT = Path(__file__).resolve().parents[2]


def measure(path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.models.large_file", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["BF16", "F32", "pth"])
def test_loading_needs_the_parameters_and_little_more(tmp_path, form):
    path = tmp_path / "weights"
    if form == "pth":
        save_pth(RWKV7(MEDIUM), path, dtype=torch.bfloat16)
    else:
        write_sparse(path, MEDIUM, dtype=form)
    found = measure(path)
    assert found["master_bytes"] > 150e6
    grown = found["peak_bytes"] - found["before_bytes"]
    assert 0.9 * found["master_bytes"] < grown < 1.2 * found["master_bytes"]


def test_a_sparse_file_is_a_whole_checkpoint(tmp_path):
    shape = RWKV7Shape(**(vars(MEDIUM) | {"width": 64, "vocab_size": 40, "num_layers": 2}))
    num = write_sparse(tmp_path / "w.safetensors", shape)
    model = load_model(tmp_path / "w.safetensors")
    assert model.shape == shape
    assert sum(p.numel() for p in model.parameters()) == num
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_shape_of_the_large_file_is_that_of_the_model_of_its_name(tmp_path):
    num = write_sparse(tmp_path / "w.safetensors", LARGE)
    assert num == pytest.approx(2.9e9, rel=0.03)
    assert (tmp_path / "w.safetensors").stat().st_blocks * 512 < 1e6


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_numbers_survive_that_their_pages_are_given_back(tmp_path, suffix):
    shape = RWKV7Shape(**(vars(MEDIUM) | {"width": 128, "num_layers": 2, "vocab_size": 600}))
    model, path = build_random_model(shape, dtype=torch.float32), tmp_path / f"w{suffix}"
    (save_pth if suffix == ".pth" else save_safetensors)(model, path)
    wanted = model.state_dict()
    for _ in range(2):
        for found in (load_model(path).state_dict(), load_state_dict(path)):
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_neighbours_in_memory_are_left_alone():
    numbers = torch.arange(40_000, dtype=torch.float32)
    give_back_pages(numbers[5_000:30_000])
    assert torch.equal(numbers[:5_000], torch.arange(5_000, dtype=torch.float32))
    assert torch.equal(numbers[30_000:], torch.arange(30_000, 40_000, dtype=torch.float32))
