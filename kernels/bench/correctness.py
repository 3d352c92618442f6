"""Relative errors of a version against float64, on data of three kinds."""

import torch

from bench.data import convert_decay, reference
from bench.operators import Operator
from bench.shapes import ACCURACY, ERRORS, Shape
from fseed_kernels.reference import build_problem, relative_error

KINDS = tuple(ERRORS)
POISON_BYTES = 2 << 30


def measure_errors(
    operator: Operator, *, kind: str, trains: bool, shape: Shape = ACCURACY, device: str = "cuda"
) -> dict[str, float]:
    """Return |actual - expected| / |expected| of y, final_state and, if it trains, each gradient.

    States and output gradients are random and not symmetric, so a transposed one shows. NaN where
    a result is not finite; on a GPU free memory is poisoned first, so an unwritten element shows.
    """
    problem = build_problem(
        b=shape.b, t=shape.t, h=shape.h, d=shape.d, kind=kind, dtype=torch.bfloat16, device=device
    )
    expected = reference(convert_decay(problem, operator.form), operator.form)
    native = operator.convert(problem)
    if device != "cpu":
        poison_free_memory(device)
    results = operator.forward_backward(native) if trains else operator.prompt(native)
    actual = operator.named(results)
    return {name: relative_error(actual[name], expected[name]) for name in actual}


def poison_free_memory(device: str) -> None:
    """Fill memory that the next allocations get with NaN."""
    block = torch.full((POISON_BYTES // 4,), float("nan"), device=device)
    torch.cuda.synchronize(device)
    del block
