"""The check of the neighbours before their first use: right kernels pass, wrong ones are named."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fseed_kernels.neighbours import (
    check,
    mix_output,
    move_rows,
    norm_shift_mix,
    relu_squared,
    wkv7_inputs,
)

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes half a minute at the true sizes."""
    monkeypatch.setattr(check, "SHORT_TOKENS", 3)


def find_error() -> str:
    return check.find_error(device=torch.device("cpu"), dtype=torch.float32, head_size=16, width=48)


def spoil(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, *, factor: float, row: int = 0
) -> None:
    """Let the backward pass of ``module`` return one tensor (a row of the sums) times factor."""
    backward = module.backward

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        result = backward(*args, **kwargs)
        if isinstance(result, Tensor):
            return factor * result
        tensor = getattr(result, name)
        if tensor is not None:
            (tensor[row] if name == "sums" else tensor).mul_(factor)
        return result

    monkeypatch.setattr(module, "backward", spoiled)


def test_right_kernels_pass() -> None:
    assert find_error() == ""


@pytest.mark.parametrize(
    ("module", "field", "row", "message"),
    [
        (norm_shift_mix, "x", 0, "norm_shift_mix 1: gradient of x"),
        (norm_shift_mix, "previous", 0, "norm_shift_mix 1: gradient of previous"),
        (norm_shift_mix, "sums", 2, "norm_shift_mix 1: gradient of mixes"),
        (wkv7_inputs, "a_low", 0, "wkv7_inputs, first layer: gradient of a_low"),
        (wkv7_inputs, "v_first", 0, "wkv7_inputs: gradient of v_first"),
        (wkv7_inputs, "sums", 3, "wkv7_inputs, first layer: gradient of k_a"),
        (mix_output, "g", 0, "mix_output: gradient of g"),
        (mix_output, "sums", 2, "mix_output: gradient of r_k"),
        (relu_squared, "", 0, "relu_squared: gradient of h"),
    ],
)
def test_a_wrong_gradient_is_named(
    module: ModuleType, field: str, row: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, module, field, factor=1.02, row=row)
    assert find_error() == f"{message} is off by 2.0e-02 (allowed 1.0e-04)"


def test_a_wrong_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = mix_output.forward
    monkeypatch.setattr(
        mix_output, "forward", lambda *args, **kwargs: 1.02 * forward(*args, **kwargs)
    )
    assert find_error() == "mix_output: out0 is off by 2.0e-02 (allowed 1.0e-04)"


@pytest.mark.parametrize("name", ["take", "put_"])
def test_a_token_in_the_wrong_place_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    move = getattr(move_rows, name)
    monkeypatch.setattr(move_rows, name, lambda x, rows, *parts: move(x, rows.flip(0), *parts))
    assert find_error() == "move_rows: a token stands in the wrong place"


def test_nan_never_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, wkv7_inputs, "k", factor=float("nan"))
    found = find_error()
    assert found == "wkv7_inputs, first layer: gradient of k is off by nan (allowed 1.0e-04)"


def test_every_form_of_the_calls_is_run() -> None:
    """Under autocast x is float32 and the lerps are bf16; lengths and the gradient of last vary."""
    cpu = torch.device("cpu")
    neighbours = [build() for build in check._neighbours(cpu, torch.bfloat16, 3, 16)]
    mixing = [n for n in neighbours if n.name == "norm_shift_mix 6"]
    assert [n.leaves["x"].dtype for n in mixing] == 2 * [torch.float32]
    outputs = [n.forward(n.leaves)[0] for n in mixing]
    assert all(out[0].dtype == torch.bfloat16 for out in outputs)
    assert sorted(map(len, outputs)) == [6, 7]  # without and with the last vector
    gates = [n.leaves["r_k"].dtype for n in neighbours if n.name == "mix_output"]
    assert gates == [torch.float32]
