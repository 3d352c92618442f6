"""What the launchers of the Triton backend return when asked for less, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import Carried
from fseed_kernels.wkv7_triton import launch
from tests.kernels.problems import Problem, build_problem

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the interpreter's tests; test_gpu.py runs the kernels"
)


def start_of(problem: Problem) -> dict[str, Tensor | Carried | None]:
    names = ("initial_state", "carried", "lengths")
    return {name: getattr(problem, name) for name in names}


def test_detached_carried_state_has_no_gradient() -> None:
    problem = build_problem(b=1, t=5, h=2, d=16, with_carried=True)
    outputs = launch.forward(problem.inputs, **start_of(problem), precision="high", keep=True)
    arguments = (problem.inputs, outputs.saved, problem.dy, problem.dfinal_state)
    call = {"carried": problem.carried, "lengths": None, "precision": "high"}
    detached = launch.backward(*arguments, **call)
    assert detached.carried_state is None
    assert torch.equal(detached.gate, launch.backward(*arguments, **call, needs_carried=True).gate)


def test_frozen_gate_has_no_gradient() -> None:
    problem = build_problem(b=1, t=5, h=2, d=16, with_carried=True)
    outputs = launch.forward(problem.inputs, **start_of(problem), precision="high", keep=True)
    arguments = (problem.inputs, outputs.saved, problem.dy, problem.dfinal_state)
    call = {"carried": problem.carried, "lengths": None, "precision": "high"}
    both = launch.backward(*arguments, **call, needs_carried=True)
    frozen = launch.backward(*arguments, **call, needs_carried=True, needs_gate=False)
    alone = launch.backward(*arguments, **call, needs_gate=False)
    assert frozen.gate is None
    assert alone.gate is None
    assert alone.carried_state is None
    assert torch.equal(frozen.carried_state, both.carried_state)
    assert torch.equal(alone.initial_state, both.initial_state)


def test_refusals() -> None:
    problem = build_problem(b=2, t=6, h=2, d=16, with_carried=True)
    assert problem.carried is not None
    call = {**start_of(problem), "precision": "high", "keep": True}
    refused = [
        ({"initial_state": torch.zeros(2, 2, 16, 32)[..., ::2]}, "initial_state has strides"),
        ({"lengths": torch.tensor([1, 2])}, "lengths has dtype torch.int64; expected torch.int32"),
        ({"carried": replace(problem.carried, gate=torch.ones(2))}, "carried.gate has shape"),
        ({"precision": "float16"}, "precision 'float16'"),
        ({"variant": "fast"}, "variant 'fast'; the kernels have default, safe"),
    ]
    for change, message in refused:
        with pytest.raises(ValueError, match=message):
            launch.forward(problem.inputs, **(call | change))
    strided = replace(problem.inputs, k=problem.inputs.k.transpose(1, 2))
    with pytest.raises(ValueError, match=r"k has (shape|strides)"):
        launch.forward(strided, **call)
    saved = launch.forward(problem.inputs, **call).saved
    call = {"carried": None, "lengths": None, "precision": "high"}
    with pytest.raises(ValueError, match="dy has shape"):
        launch.backward(problem.inputs, saved, problem.dy[:, :5], None, **call)
    large = build_problem(b=1, t=64, h=1, d=64)
    saved = launch.forward(large.inputs, **start_of(large), precision="bf16", keep=True).saved
    call = {"carried": None, "lengths": None, "precision": "bf16"}
    with pytest.raises(ValueError, match=r"saved\.(step|query) has shape"):
        launch.backward(large.inputs, saved, large.dy, None, **call, variant="safe")
