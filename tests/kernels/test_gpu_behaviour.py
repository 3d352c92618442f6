"""How both backends behave on a GPU: graphs, devices, refusals, memory, large addresses."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.launchers import load_launcher
from fseed_kernels.problem import Carried, Inputs
from fseed_kernels.self_check import run
from tests.kernels.error_table import Case
from tests.kernels.gpu_cases import (
    SIX,
    assert_equal,
    each_bf16_case,
    each_training_case,
    gpu_only,
    problem_and_reference,
    run_poisoned,
    start,
)
from tests.kernels.problems import Problem, build_problem

pytestmark = gpu_only


@each_training_case
@pytest.mark.parametrize("t", [192, 200])
def test_cuda_graph_replays(case: Case, t: int) -> None:
    problem, _ = problem_and_reference(b=2, t=t, dtype=case.dtype)
    other, _ = problem_and_reference(b=2, t=t, dtype=case.dtype, seed=1)
    expected = run_poisoned(case, other)
    # the graph reads its inputs in place: first those of ``problem``, in the end those of ``other``
    inputs = Inputs(*(x.clone() for x in problem.inputs.tensors))
    static = replace(other, inputs=inputs, dy=problem.dy.clone())
    launcher = load_launcher(case.backend)
    run(launcher, static, precision=case.precision)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run(launcher, static, precision=case.precision)
    for own, new in zip(static.inputs.tensors, other.inputs.tensors, strict=True):
        own.copy_(new)
    static.dy.copy_(other.dy)
    for _ in range(2):
        for tensor in found.values():
            tensor.fill_(float("nan"))
        graph.replay()
        assert_equal(found, expected)


@each_training_case
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_device_of_the_inputs(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=100, lengths=(100, 30), dtype=case.dtype)
    expected = run_poisoned(case, problem)

    def moved(value: object) -> object:
        if isinstance(value, Tensor):
            return value.to("cuda:1")
        if isinstance(value, Inputs | Carried):
            return type(value)(*(moved(getattr(value, f.name)) for f in fields(value)))
        return value

    there = Problem(*(moved(getattr(problem, f.name)) for f in fields(problem)))
    assert torch.cuda.current_device() == 0
    found = run_poisoned(case, there)
    assert {x.device.index for x in found.values()} == {1}
    assert_equal({name: tensor.to("cuda:0") for name, tensor in found.items()}, expected)


@each_training_case
def test_non_contiguous_inputs_are_refused(case: Case) -> None:
    problem, _ = problem_and_reference(b=2, t=64, dtype=case.dtype)
    wide = problem.inputs.k.repeat(1, 1, 1, 2)[..., ::2]
    call = {**start(problem), "precision": case.precision, "keep": True}
    with pytest.raises(ValueError, match="k has strides"):
        load_launcher(case.backend).forward(replace(problem.inputs, k=wide), **call)


@each_bf16_case
def test_a_cpu_is_refused(case: Case) -> None:
    problem = build_problem(t=64, dtype=case.dtype)
    call = {**start(problem), "precision": case.precision, "keep": True}
    with pytest.raises(KernelUnavailable, match="cpu"):
        load_launcher(case.backend).forward(problem.inputs, **call)


@pytest.mark.parametrize(
    ("d", "dtype", "precision"),
    [(32, torch.bfloat16, "bf16"), (64, torch.bfloat16, "high"), (64, torch.float32, "high")],
)
def test_the_cuda_backend_refuses_what_it_has_not(
    d: int, dtype: torch.dtype, precision: str
) -> None:
    problem, _ = problem_and_reference(b=1, t=5, d=d, dtype=dtype)
    call = {**start(problem), "precision": precision, "keep": True}
    with pytest.raises(KernelUnavailable):
        load_launcher("cuda").forward(problem.inputs, **call)


@each_bf16_case
def test_memory_of_a_training_step(case: Case) -> None:
    """The bar of 0.6 GiB for 8 x 4096 x 12 x 64, over the inputs and the output gradients."""
    size, options = (8, 4096, 12, 64), {"device": "cuda", "dtype": torch.bfloat16}
    inputs = Inputs(*(torch.randn(size, **options) * 0.1 for _ in range(6)))
    dy, state = torch.randn(size, **options), torch.randn(8, 12, 64, 64, device="cuda")
    launcher = load_launcher(case.backend)
    problem = Problem(inputs, state, None, None, dy, state)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run(launcher, problem, precision="bf16")
    extra = (torch.cuda.max_memory_allocated() - before) / 2**30
    assert extra <= 0.6, f"{extra:.3f} GiB"


@pytest.mark.slow
@each_bf16_case
def test_addresses_beyond_32_bits(case: Case) -> None:
    """65 rows of 2^25 elements: the last row lies behind 2^31; it has to equal the first."""
    torch.cuda.empty_cache()  # what the case before kept
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("needs 60 GiB of free memory")
    size = (65, 65536, 8, 64)
    tensors = [torch.zeros(size, dtype=torch.bfloat16, device="cuda") for _ in SIX]
    for tensor in tensors:
        tensor[0] = 0.05 * torch.randn(size[1:], device="cuda")
        tensor[-1] = tensor[0]
    call = {"initial_state": None, "carried": None, "lengths": None, "precision": "bf16"}
    outputs = load_launcher(case.backend).forward(Inputs(*tensors), **call, keep=False)
    assert outputs.y[0].count_nonzero() > 0
    assert torch.equal(outputs.y[-1], outputs.y[0])
    assert torch.equal(outputs.final_state[-1], outputs.final_state[0])
