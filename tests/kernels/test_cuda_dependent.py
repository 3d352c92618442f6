"""Kernels that start while the one ahead of them runs: same results as when they do not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import Inputs
from fseed_kernels.self_check import run
from fseed_kernels.wkv7_cuda import launch, load

from .problems import Problem, build_problem
from .test_cuda_launch import CUDA, needs_gpu

pytestmark = [pytest.mark.gpu, needs_gpu]
SHAPES = [(2, 1024, 12, None), (8, 512, 12, None), (3, 300, 4, [300, 0, 65])]


def build(b: int, t: int, h: int, lengths: list[int] | None) -> Problem:
    return build_problem(
        b=b, t=t, h=h, dtype=torch.bfloat16, device="cuda", lengths=lengths, with_carried=True
    )


def fresh(problem: Problem) -> Problem:
    """Return the problem in new memory, written by kernels that are right ahead of ours."""

    def copied(x: Tensor) -> Tensor:
        copy = torch.full_like(x, torch.nan)  # what is read too early shows
        return copy.copy_(x)

    inputs = Inputs(*(copied(x) for x in problem.inputs.tensors))
    return replace(problem, inputs=inputs, dy=copied(problem.dy))


def doubled(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return results of kernels right behind ours."""
    return {name: 2 * tensor for name, tensor in found.items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize(("b", "t", "h", "lengths"), SHAPES)
def test_one_after_the_other(
    b: int,
    t: int,
    h: int,
    lengths: list[int] | None,
    *,
    chained: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = build(b, t, h, lengths)
    monkeypatch.setattr(load, "DEPENDENT_LAUNCH", False)
    expected = doubled(run(CUDA, problem, precision="bf16"))
    monkeypatch.setattr(load, "DEPENDENT_LAUNCH", True)
    if chained:
        monkeypatch.setattr(launch, "FORWARD_FORMS", ((1, "chained_1"),))
    torch.cuda._sleep(10_000_000)  # launches queue up; blocks of memory are used again and again
    found = [doubled(run(CUDA, fresh(problem), precision="bf16")) for _ in range(10)]
    for one in found:
        assert_equal(one, expected)


@pytest.mark.parametrize(("b", "t", "h", "lengths"), SHAPES)
def test_in_a_graph(
    b: int, t: int, h: int, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = build(b, t, h, lengths)
    monkeypatch.setattr(load, "DEPENDENT_LAUNCH", False)
    expected = doubled(run(CUDA, problem, precision="bf16"))
    monkeypatch.setattr(load, "DEPENDENT_LAUNCH", True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        first = run(CUDA, fresh(problem), precision="bf16")
        captured = doubled(run(CUDA, fresh(problem), precision="bf16"))
    for _ in range(3):
        for tensor in (*first.values(), *captured.values()):
            tensor.fill_(torch.nan)
        graph.replay()
        assert_equal(captured, expected)
