"""What the GPU tests share: cases, problems with their references, runs in poisoned memory."""

from functools import cache

import pytest
import torch
from torch import Tensor

from fseed_kernels.launchers import load_launcher
from fseed_kernels.problem import Carried
from fseed_kernels.self_check import run
from tests.kernels.error_table import CASES, Case
from tests.kernels.problems import Problem, build_problem, errors, poison_allocations, reference

gpu_only = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIX = ("r", "decay_logit", "k", "v", "alpha", "beta")
TRITON_BF16, CUDA_BF16, TRITON_HIGH_BF16, TRITON_HIGH = CASES
TRAINING = (TRITON_BF16, CUDA_BF16, TRITON_HIGH)  # what a training run may choose
each_training_case = pytest.mark.parametrize("case", TRAINING, ids=str)
each_bf16_case = pytest.mark.parametrize("case", [TRITON_BF16, CUDA_BF16], ids=str)


@cache
def problem_and_reference(**options: object) -> tuple[Problem, dict[str, Tensor]]:
    """Build a problem once for all backends; ``lengths`` as a tuple."""
    lengths = options.pop("lengths", None)
    options = {"device": "cuda", "with_carried": True, "h": 8} | options
    problem = build_problem(lengths=lengths and list(lengths), **options)
    return problem, reference(problem)


def run_poisoned(case: Case, problem: Problem, variant: str = "default") -> dict[str, Tensor]:
    """Run forward and backward where every allocation starts as NaN."""
    launcher = load_launcher(case.backend, variant)
    poison_allocations(str(problem.dy.device), gib=0.5)
    torch.utils.deterministic.fill_uninitialized_memory = True  # trainings turn it off
    torch.use_deterministic_algorithms(mode=True)  # fills torch.empty with NaN
    try:
        return run(launcher, problem, precision=case.precision)
    finally:
        torch.use_deterministic_algorithms(mode=False)


def assert_right(case: Case, variant: str = "default", **options: object) -> dict[str, Tensor]:
    """Compare outputs and every gradient with the reference; return what the kernels gave."""
    problem, expected = problem_and_reference(dtype=case.dtype, **options)
    found = run_poisoned(case, problem, variant)
    deviations = errors(found, expected)
    bar = case.bar(str(options.get("kind", "typical")))
    assert {k: f"{v:.1e}" for k, v in deviations.items() if not v <= bar} == {}
    return found


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare bit for bit what ``expected`` has."""
    different = [
        name
        for name, tensor in expected.items()
        if tensor is not None and not torch.equal(found[name], tensor)
    ]
    assert different == []


def start(problem: Problem) -> dict[str, Tensor | Carried | None]:
    names = ("initial_state", "carried", "lengths")
    return {name: getattr(problem, name) for name in names}
