"""Texts and what follows them in their rows, on the kernels of a GPU: digit for digit two scans."""

import pytest
import torch
from torch import Tensor

from fseed.ops.continuation import Continuation
from fseed.ops.rows import put_rows, take_rows
from fseed.ops.wkv7 import wkv7
from fseed_kernels.reference import build_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZE, NUM_TOKENS = 70, 270  # tokens read on, tokens of a row
LENGTHS, OWN = [200, 131, 64, 7], [70, 1, 33, 0]


def two_scans(inputs: list[Tensor], lengths: Tensor, continued: Continuation, backend: str):
    text = wkv7(*inputs, lengths=lengths, backend=backend)
    parts = take_rows(inputs, continued.rows, backend=backend)
    start = {"initial_state": text.final_state, "lengths": continued.lengths}
    rest = wkv7(*parts, **start, backend=backend)
    return put_rows(text.y, continued.rows, rest.y), text.final_state


def one_call(inputs: list[Tensor], lengths: Tensor, continued: Continuation, backend: str):
    return wkv7(*inputs, lengths=lengths, continued=continued, backend=backend)[:2]


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_reading_on_is_a_second_scan(backend):
    problem = build_problem(b=4, t=NUM_TOKENS, dtype=torch.bfloat16, device="cuda")
    lengths, own = (torch.tensor(x, dtype=torch.int32, device="cuda") for x in (LENGTHS, OWN))
    continued = Continuation.behind(lengths, lengths=own, size=SIZE, num_tokens=NUM_TOKENS)
    found = []
    for read in (one_call, two_scans):
        inputs = [x.detach().clone().requires_grad_() for x in problem.inputs.tensors]
        y, state = read(inputs, lengths, continued, backend)
        loss = (y.float() * problem.dy.float()).sum() + state.square().sum()
        found.append((y.detach(), state.detach(), *torch.autograd.grad(loss, inputs)))
    assert [i for i, (a, b) in enumerate(zip(*found, strict=True)) if not torch.equal(a, b)] == []
