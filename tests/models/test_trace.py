import pytest
import torch

from fseed.models.trace import Trace, relative_error, trace_errors


def test_relative_error_is_the_largest_difference_over_the_largest_value() -> None:
    expected = torch.tensor([[1.0, -4.0], [0.0, 2.0]])
    found = expected + torch.tensor([[0.1, 0.0], [-0.2, 0.0]])
    assert relative_error(found, expected) == pytest.approx(0.05)
    assert relative_error(expected, expected) == 0.0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([0.0, 0.0], [0.0, 0.0]),  # proves nothing
        ([1.0, 0.0], [0.0, 0.0]),
        ([float("nan"), 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [float("nan"), 1.0]),
        ([1.0, 1.0], [float("inf"), 1.0]),
        ([float("inf"), 1.0], [1.0, 1.0]),
        ([1.0], [1.0, 1.0]),
    ],
)
def test_errors_without_meaning_are_infinite(found: list[float], expected: list[float]) -> None:
    assert relative_error(torch.tensor(found), torch.tensor(expected)) == float("inf")


def test_a_small_layer_cannot_hide_behind_a_large_one() -> None:
    states = torch.stack([torch.full((4,), 1000.0), torch.full((4,), 0.001)])
    wkv = torch.ones(2, 1, 2, 2)
    expected = Trace(torch.ones(3, 5), states, wkv, states)
    wrong = states.clone()
    wrong[1] *= 2
    errors = trace_errors(Trace(torch.ones(3, 5), wrong, wkv, states), expected)
    assert errors == {"logits": 0.0, "att_shift": 1.0, "wkv": 0.0, "ffn_shift": 0.0}
