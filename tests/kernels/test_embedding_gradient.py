"""The gradient of the embedding in Triton's interpreter against index_add in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fseed_kernels.neighbours import embedding_gradient
from fseed_kernels.reference import relative_error
from tests.kernels.poison import poisoned_memory

RUN = embedding_gradient.RUN

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty gives NaN: an element that is left unwritten shows."""
    with poisoned_memory():
        yield


def check(tokens: Tensor, *, num_ids: int, width: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    dout = torch.randn(len(tokens), width, generator=generator)
    actual = embedding_gradient.backward(tokens, dout, num_ids=num_ids)
    expected = torch.zeros(num_ids, width, dtype=torch.float64)
    expected.index_add_(0, tokens, dout.double())
    assert actual.dtype == torch.float32
    assert relative_error(actual, expected) <= 1e-6
    assert torch.equal(actual == 0, expected == 0)  # absent ids are exactly 0
    return actual


def draw(num_tokens: int, num_ids: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_ids, (num_tokens,), generator=generator)


@pytest.mark.parametrize(("num_tokens", "num_ids"), [(1, 1), (1, 9), (50, 3), (7, 30), (90, 13)])
def test_repeated_and_absent_tokens(num_tokens: int, num_ids: int) -> None:
    check(draw(num_tokens, num_ids), num_ids=num_ids)


@pytest.mark.parametrize("width", [16, 48, 768])
def test_widths(width: int) -> None:
    check(draw(20, 5), num_ids=5, width=width)


@pytest.mark.parametrize("before", [0, 1, RUN - 1, RUN, RUN + 1])
@pytest.mark.parametrize("length", [RUN - 1, RUN, RUN + 1, 2 * RUN, 3 * RUN + 5])
def test_long_runs_of_one_token_wherever_they_begin(before: int, length: int) -> None:
    check(torch.tensor([0] * before + [1] * length + [3] * 5), num_ids=5)


def test_all_tokens_alike() -> None:
    check(torch.full((4 * RUN,), 2), num_ids=3)


def test_whole_runs_are_summed_before_they_meet() -> None:
    """2^24 swallows each 1 that is added to it, but not the sum of a run."""
    dout = torch.ones(4 * RUN, 16)
    dout[0] = 2.0**24
    tokens = torch.zeros(4 * RUN, dtype=torch.long)
    found = embedding_gradient.backward(tokens, dout, num_ids=1)
    lost = RUN // embedding_gradient.TILE - 1  # those of the lane that holds it, in its own run
    assert (found == 2.0**24 + 4 * RUN - 1 - lost).all()


def test_other_tokens_change_no_digit_and_neither_does_another_run() -> None:
    dout = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    tokens = torch.full((40,), 4)
    tokens[::2] = 1
    before = tokens.clone()
    before[1::2] = 0
    first, other, again = (
        embedding_gradient.backward(t, dout, num_ids=5)[1] for t in (tokens, before, tokens)
    )
    assert torch.equal(first, other)
    assert torch.equal(first, again)


def test_gradients_in_bfloat16_are_summed_in_float32() -> None:
    dout = torch.full((300, 16), 1.0, dtype=torch.bfloat16)
    dout[0] = 2.0**-7
    found = embedding_gradient.backward(torch.zeros(300, dtype=torch.long), dout, num_ids=1)
    assert (found == 299 + 2.0**-7).all()


def test_it_refuses() -> None:
    tokens = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"expected \[N, C\]"):
        embedding_gradient.backward(tokens, torch.zeros(3, 2, 4), num_ids=2)
    with pytest.raises(ValueError, match="tokens has shape"):
        embedding_gradient.backward(tokens, torch.zeros(4, 16), num_ids=2)
    with pytest.raises(ValueError, match=r"dout has dtype torch\.float64"):
        embedding_gradient.backward(tokens, torch.zeros(3, 16).double(), num_ids=2)
