"""The check before the first use covers both ends of the vocabulary: wrong kernels are named."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fseed_kernels.neighbours import check, cross_entropy, embedding_gradient

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the other kernels out: tests/kernels/test_neighbour_check.py has them."""
    monkeypatch.setattr(check, "_neighbours", lambda *sizes: [])


def find_error() -> str:
    return check.find_error(device=torch.device("cpu"), dtype=torch.float32, head_size=16, width=48)


def test_right_kernels_pass() -> None:
    assert find_error() == ""


@pytest.mark.parametrize(
    ("argument", "with_gradient", "message"),
    [
        (0, True, "cross_entropy: gradient of x"),
        (3, True, "cross_entropy: losses"),
        (3, False, "cross_entropy: losses without gradient"),
    ],
)
def test_a_wrong_loss_is_named(
    argument: int, with_gradient: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cross_entropy.cross_entropy_

    def spoiled(*args: Tensor, **rest: Any) -> None:
        right(*args, **rest)
        if rest["with_gradient"] == with_gradient:
            args[argument].mul_(1.02)

    monkeypatch.setattr(cross_entropy, "cross_entropy_", spoiled)
    assert find_error() == f"{message} is off by 2.0e-02 (allowed 1.0e-04)"


def test_a_gradient_that_is_not_scaled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "scale_", lambda x, factor: None)
    assert find_error().startswith("cross_entropy: gradient of x is off by 1.7e+00")


def test_a_wrong_gradient_of_the_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = embedding_gradient.backward
    monkeypatch.setattr(
        embedding_gradient, "backward", lambda *args, **rest: float("nan") * right(*args, **rest)
    )
    expected = "embedding_gradient: gradient of the table is off by nan (allowed 1.0e-04)"
    assert find_error() == expected
