"""The embedding: its own gradient on the kernels (Triton's interpreter) against PyTorch's."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.embed_tokens import embed_tokens
from fseed_kernels.reference import relative_error

if torch.cuda.is_available():
    pytest.skip("the kernels are compiled where a GPU is", allow_module_level=True)


def build(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens [3, 50], half of them alike, weight and a gradient."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(9, (3, 50), generator=generator)
    tokens[:, 25:] = 4
    weight = torch.randn(11, 16, generator=generator).to(dtype)
    return tokens, weight.requires_grad_(), torch.randn(3, 50, 16, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vectors_and_their_gradient(dtype: torch.dtype) -> None:
    tokens, weight, dout = build(dtype)
    out = embed_tokens(tokens, weight, backend="triton")
    assert torch.equal(out, F.embedding(tokens, weight))
    out.backward(dout)
    assert weight.grad is not None
    assert weight.grad.dtype == dtype
    expected = torch.zeros(11, 16, dtype=torch.float64)
    expected.index_add_(0, tokens.flatten(), dout.flatten(0, 1).double())
    assert relative_error(weight.grad, expected) <= (1e-6 if dtype == torch.float32 else 2**-8)
    assert (weight.grad[9:] == 0).all()


def test_a_gradient_that_is_not_contiguous() -> None:
    tokens, weight, dout = build()
    turned = dout.transpose(0, 1).contiguous().transpose(0, 1)
    gradients = []
    for given in (dout, turned):
        out = embed_tokens(tokens, weight, backend="triton")
        gradients.append(torch.autograd.grad(out, weight, given)[0])
    assert torch.equal(*gradients)


def test_a_frozen_table_gets_none() -> None:
    tokens, weight, _ = build()
    assert not embed_tokens(tokens, weight.detach(), backend="triton").requires_grad
    with torch.no_grad():
        assert not embed_tokens(tokens, weight, backend="triton").requires_grad


def test_plain_backends_keep_their_digits() -> None:
    tokens, weight, dout = build()
    gradients = []
    for out in (F.embedding(tokens, weight), embed_tokens(tokens, weight, backend="chunked")):
        gradients.append(torch.autograd.grad(out, weight, dout)[0])
    assert torch.equal(*gradients)


def test_the_operators_keep_the_rules_of_custom_operators() -> None:
    tokens, weight, dout = build()
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    operators = torch.ops.fseed
    for operator, arguments in (
        (operators.embed_tokens.default, (tokens, weight)),
        (operators.embed_tokens_backward.default, (tokens, dout, 11)),
    ):
        torch.library.opcheck(operator, arguments, test_utils=utilities)


@pytest.mark.slow
def test_compilation_has_no_break_and_changes_no_digit() -> None:
    tokens, weight, dout = build()
    compiled = torch.compile(embed_tokens, fullgraph=True, backend="aot_eager")
    found = [
        torch.autograd.grad(function(tokens, weight, backend="triton"), weight, dout)[0]
        for function in (embed_tokens, compiled)
    ]
    assert torch.equal(*found)
