"""The neighbours on a GPU: bf16 no worse than plain PyTorch in bf16, float32 near float64."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch

from fseed_kernels.neighbours import relu_squared
from fseed_kernels.neighbours.check import find_error
from tests.kernels.neighbour_forms import (
    Neighbour,
    build_mix_output,
    build_norm_shift_mix,
    build_relu_squared,
    build_wkv7_inputs,
)
from tests.kernels.problems import errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MIX_SIZES = [
    (1, 1, 768, None), (3, 1, 48, [0, 1, 1]), (2, 257, 64, [257, 31]), (5, 300, 768, None),
    (4, 1000, 2048, [1000, 0, 1, 999]), (2, 513, 2560, [1, 513]), (2, 130, 4096, None),
]  # fmt: skip
HEAD_SIZES = [(1, 1, 12, 64), (3, 77, 3, 16), (2, 130, 5, 32), (5, 1000, 12, 64), (2, 333, 40, 64)]
BUILDERS = (
    [
        pytest.param(
            partial(build_norm_shift_mix, b=b, t=t, c=c, m=m, lengths=lengths),
            id=f"norm_shift_mix{m}-{b}x{t}x{c}",
        )
        for b, t, c, lengths in MIX_SIZES
        for m in (1, 6)
    ]
    + [
        pytest.param(
            partial(build_wkv7_inputs, b=b, t=t, h=h, d=d, first_layer=first_layer),
            id=f"wkv7_inputs{'_first' if first_layer else ''}-{b}x{t}x{h}x{d}",
        )
        for b, t, h, d in HEAD_SIZES
        for first_layer in (True, False)
    ]
    + [
        pytest.param(
            partial(build_mix_output, b=b, t=t, h=h, d=d), id=f"mix_output-{b}x{t}x{h}x{d}"
        )
        for b, t, h, d in HEAD_SIZES
    ]
    + [
        pytest.param(partial(build_relu_squared, shape=shape), id=f"relu_squared-{shape}")
        for shape in ((5,), (3, 7, 192), (2, 1000, 3072))
    ]
)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty gives NaN: an element that is left unwritten shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def run_twice(neighbour: Neighbour) -> tuple[dict[str, float], dict[str, float]]:
    """Return the errors of the kernels and of plain PyTorch; the second run is the same."""
    douts = neighbour.output_gradients()
    actual, again = neighbour.fused(douts), neighbour.fused(douts)
    for name, tensor in actual.items():
        assert torch.equal(tensor, again[name]), name
    expected = neighbour.reference(douts, torch.float64)
    return errors(actual, expected), errors(neighbour.reference(douts), expected)


@pytest.mark.parametrize("build", BUILDERS)
def test_float32(build: partial[Neighbour]) -> None:
    found, _ = run_twice(build(dtype=torch.float32, device="cuda"))
    assert all(error <= 5e-6 for error in found.values()), found


@pytest.mark.parametrize("build", BUILDERS)
def test_bfloat16_is_no_worse_than_plain_pytorch(build: partial[Neighbour]) -> None:
    found, plain = run_twice(build(dtype=torch.bfloat16, device="cuda"))
    # 2^-9: half a unit in the last place, met by a plain result that happens to be exact
    worse = {
        name: (error, plain[name])
        for name, error in found.items()
        if not error <= 1.2 * max(plain[name], 2**-9)
    }
    assert not worse, worse


@pytest.mark.parametrize("head_size", [16, 64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_check_before_the_first_use_passes(dtype: torch.dtype, head_size: int) -> None:
    call = {"device": torch.device("cuda"), "dtype": dtype, "head_size": head_size}
    assert find_error(**call, width=12 * head_size) == ""


def test_relu_squared_beyond_2_to_the_31_entries() -> None:
    h = torch.randn(2**20 + 1, 2048, device="cuda", dtype=torch.bfloat16)
    assert torch.equal(relu_squared.forward(h)[-3:], torch.relu(h[-3:]).square())
