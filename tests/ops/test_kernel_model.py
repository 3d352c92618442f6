"""The whole model on the kernels (Triton's interpreter, float32) against the plain backend."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# a process of its own: the interpreter is chosen when triton is imported
PROGRAM = """
import torch

from fseed.models.prompt_answer import answer_hidden
from tests.models.build import build_batch, build_future_seed, build_random_model

BATCH = build_batch([9, 5, 7], [4, 2, 3])

def gradients(backend, recompute=False):
    model = build_random_model().float()
    model.use_backend(backend)
    if recompute:
        model.recompute_layers()
    fs = build_future_seed(gate="head", detach=False, alpha_init=0.5, head_init=0.5, clip=0.3)
    fs = fs.float()
    hidden = answer_hidden(model, BATCH, future_seed=fs)
    generator = torch.Generator().manual_seed(1)
    (hidden * torch.randn(hidden.shape, generator=generator)).sum().backward()
    named = dict(model.named_parameters()) | dict(fs.named_parameters())
    return {"hidden": hidden} | {n: p.grad for n, p in named.items() if p.grad is not None}

plain, fused = gradients("chunked"), gradients("triton")
assert plain.keys() == fused.keys()
for name, expected in plain.items():
    error = float((fused[name] - expected).norm() / expected.norm().clamp_min(1e-12))
    assert error < 2e-5, (name, error)
print("compared", len(plain))

again = gradients("triton", recompute=True)
assert again.keys() == fused.keys()
for name, expected in fused.items():
    assert torch.equal(again[name], expected), name
print("computed again", len(again))

model = build_random_model().float()
model.use_backend("triton")
fs = build_future_seed(gate="head", alpha_init=0.5, clip=0.3).float()


def hidden(batch):
    return answer_hidden(model, batch, future_seed=fs)


compiled = torch.compile(hidden, fullgraph=True, backend="aot_eager")
parameters = list(model.blocks.parameters())
pairs = []
for function in (hidden, compiled):
    result = function(BATCH)
    pairs.append((result, torch.autograd.grad(result.square().sum(), parameters)))
assert torch.equal(pairs[0][0], pairs[1][0])
assert all(torch.equal(a, b) for a, b in zip(pairs[0][1], pairs[1][1], strict=True))
print("compiled without a break", len(parameters))
"""


@pytest.mark.slow
def test_gradients_equal_the_plain_backend_and_layers_are_computed_again_or_compiled():
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert [int(line.split()[-1]) > 50 for line in result.stdout.splitlines()] == [True, True, True]
