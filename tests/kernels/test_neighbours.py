"""The neighbours in Triton's interpreter, float32, against autograd of the plain form in float64.

The limit is 2e-6 of the norm of each tensor: a few roundings of float32.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fseed_kernels.neighbours import mix_output, norm_shift_mix, relu_squared, wkv7_inputs
from fseed_kernels.neighbours.launching import tiles_per_program
from tests.kernels.neighbour_forms import (
    Neighbour,
    build_mix_output,
    build_norm_shift_mix,
    build_relu_squared,
    build_wkv7_inputs,
)
from tests.kernels.poison import poisoned_memory
from tests.kernels.problems import errors

LIMIT = 2e-6
ON_CPU = {"dtype": torch.float32, "device": "cpu"}

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty gives NaN: an element that is left unwritten shows."""
    with poisoned_memory():
        yield


def check(neighbour: Neighbour) -> None:
    douts = neighbour.output_gradients()
    actual = neighbour.fused(douts)
    found = errors(actual, neighbour.reference(douts, torch.float64))
    assert all(error <= LIMIT for error in found.values()), found
    for name, leaf in neighbour.leaves.items():
        assert (actual[name].shape, actual[name].dtype) == (leaf.shape, leaf.dtype)


def test_an_unwritten_element_is_nan() -> None:
    assert torch.empty_like(torch.zeros(3)).isnan().all()


@pytest.mark.parametrize("m", [1, 6])
@pytest.mark.parametrize(
    ("t", "c", "lengths"),
    [
        (1, 48, None),
        (7, 48, [0, 1, 7]),
        pytest.param(9, 64, [9, 4, 8], marks=pytest.mark.slow),
        (1, 16, [0, 1, 1]),
    ],
)
def test_norm_shift_mix(m: int, t: int, c: int, lengths: list[int] | None) -> None:
    check(build_norm_shift_mix(b=3, t=t, c=c, m=m, lengths=lengths, **ON_CPU))


def test_many_tokens_per_program(monkeypatch: pytest.MonkeyPatch) -> None:
    # forward 4 tokens per program, backward 8
    monkeypatch.setattr(norm_shift_mix, "FORWARD_PROGRAMS", 9)
    check(build_norm_shift_mix(b=2, t=19, c=32, m=6, lengths=[19, 13], **ON_CPU))


def test_without_a_gradient_of_last() -> None:
    neighbour = build_norm_shift_mix(b=2, t=9, c=48, m=6, **ON_CPU)
    *douts, dlast = neighbour.output_gradients()
    outs, statistics = neighbour.forward(neighbour.leaves)
    del outs
    arguments = (*neighbour.leaves.values(), statistics, douts)
    without = norm_shift_mix.backward(*arguments, None, lengths=None)
    zero = norm_shift_mix.backward(*arguments, torch.zeros_like(dlast), lengths=None)
    for name, gradient in without._asdict().items():
        assert torch.equal(gradient, getattr(zero, name)), name


@pytest.mark.parametrize("first_layer", [True, False])
@pytest.mark.parametrize(("t", "h", "d"), [(1, 3, 16), (35, 2, 32), (17, 3, 64)])
def test_wkv7_inputs(t: int, h: int, d: int, first_layer: bool) -> None:
    check(build_wkv7_inputs(b=2, t=t, h=h, d=d, first_layer=first_layer, **ON_CPU))


@pytest.mark.parametrize(("t", "h", "d"), [(1, 3, 16), (35, 2, 32), (17, 3, 64)])
def test_mix_output(t: int, h: int, d: int) -> None:
    check(build_mix_output(b=2, t=t, h=h, d=d, **ON_CPU))


def test_mix_output_adds_the_eps_it_is_given() -> None:
    check(build_mix_output(b=1, t=5, h=2, d=16, eps=0.7, **ON_CPU))


def test_a_key_of_zeros_has_a_direction_of_zeros() -> None:
    neighbour = build_wkv7_inputs(b=1, t=3, h=1, d=16, first_layer=True, **ON_CPU)
    neighbour.leaves["k"][0, 1] = 0
    outputs, _ = neighbour.forward(neighbour.leaves)
    assert (outputs[2][0, 1] == 0).all()
    assert all(torch.isfinite(out).all() for out in outputs)


@pytest.mark.parametrize("kernel", ["wkv7_inputs", "mix_output"])
def test_several_tiles_per_program(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"wkv7_inputs": wkv7_inputs, "mix_output": mix_output}[kernel]
    monkeypatch.setattr(module, "tiles_per_program", lambda *sizes: 3)
    sizes = {"b": 1, "t": 197, "h": 2, "d": 16, **ON_CPU}
    if kernel == "mix_output":
        check(build_mix_output(**sizes))
    else:
        check(build_wkv7_inputs(**sizes, first_layer=False))


def test_tiles_per_program_grow_with_the_batch() -> None:
    assert tiles_per_program(64, 12, 64) == 1
    assert tiles_per_program(4096, 12, 64) == 2
    assert tiles_per_program(8 * 4096, 12, 64) == 16


@pytest.mark.parametrize("shape", [(1, 1, 48), (3, 7, 192), (5,)])
def test_relu_squared(shape: tuple[int, ...]) -> None:
    check(build_relu_squared(shape=shape, **ON_CPU))


def test_lerps_of_float32_rows_in_bfloat16() -> None:
    """Under autocast the residual stream is float32 and the lerps go to bfloat16 products."""
    neighbour = build_norm_shift_mix(b=2, t=5, c=48, m=6, **ON_CPU)
    result = norm_shift_mix.forward(
        *neighbour.leaves.values(), lengths=None, eps=1e-5, dtype=torch.bfloat16
    )
    expected, _ = neighbour.forward(neighbour.leaves)
    for out, wanted in zip(result.outs, expected[:-1], strict=True):
        assert out.dtype == torch.bfloat16
        assert (out.float() - wanted).abs().max() <= 2**-7 * wanted.abs().max()


def _normed(**changes: Tensor) -> None:
    tensors = {
        "x": torch.zeros(2, 3, 32), "weight": torch.zeros(32), "bias": torch.zeros(32),
        "previous": torch.zeros(2, 32), "mixes": torch.zeros(6, 32), "lengths": None,
    } | changes  # fmt: skip
    norm_shift_mix.forward(**tensors, eps=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(2, 3, 32).half()}, "x has dtype torch.float16; allowed"),
        ({"x": torch.zeros(2, 3, 40)}, "C a multiple of 16"),
        ({"x": torch.zeros(2, 0, 32)}, "at least one element"),
        ({"x": torch.zeros(2, 32, 3).mT}, "call .contiguous"),
        ({"mixes": torch.zeros(5, 32)}, r"expected \[1, 32\] or \[6, 32\]"),
        ({"bias": torch.zeros(33)}, "bias has shape"),
        ({"previous": torch.zeros(2, 32).double()}, "previous has dtype torch.float64"),
        ({"lengths": torch.zeros(2, dtype=torch.int64)}, "lengths has dtype torch.int64"),
    ],
)
def test_norm_shift_mix_refuses(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _normed(**changes)


def test_head_kernels_refuse() -> None:
    x, vector = torch.zeros(2, 3, 48), torch.zeros(48)
    with pytest.raises(ValueError, match="head size 48; the kernels have 16, 32, 64"):
        mix_output.forward(x, x, x, x, x, vector, vector, torch.zeros(1, 48), eps=1e-5)
    with pytest.raises(ValueError, match="C a multiple of 32"):
        wkv7_inputs.forward(x, x, x, vector, vector, vector, vector, head_size=32)
    with pytest.raises(ValueError, match="k_a has shape"):
        wkv7_inputs.forward(x, x, x, vector, vector, vector, torch.zeros(3), head_size=16)
    with pytest.raises(ValueError, match=r"dout has dtype torch\.bfloat16"):
        relu_squared.backward(x, x.bfloat16())
    given = wkv7_inputs.Prepared(x, x, x, x, v=x)
    with pytest.raises(ValueError, match="give both or neither"):
        wkv7_inputs.backward(x, x, *(vector,) * 4, given, head_size=16)
