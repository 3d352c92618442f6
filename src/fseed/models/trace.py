"""What a model did with a text, and how far two such records are apart."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """Logits of every position and the states behind the last token, float64, one text."""

    logits: Float[Tensor, "T vocab"]
    att_shift: Float[Tensor, "L C"]
    wkv: Float[Tensor, "L H V K"]  # row = value
    ffn_shift: Float[Tensor, "L C"]


TRACE_PARTS = tuple(field.name for field in fields(Trace))
STATE_PARTS = TRACE_PARTS[1:]


def trace_errors(found: Trace, expected: Trace) -> dict[str, float]:
    """Return the relative error of the logits and of each state, the worst layer's for states."""
    errors = {"logits": relative_error(found.logits, expected.logits)}
    for name in STATE_PARTS:
        layers = zip(getattr(found, name), getattr(expected, name), strict=True)
        # layer by layer: a small state must not hide behind a large one
        errors[name] = max(relative_error(a, b) for a, b in layers)
    return errors


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return max|found - expected| / max|expected|; infinite where that has no meaning.

    Another shape, a value that is not finite, or an expected tensor of zeros (which proves
    nothing) is infinitely wrong.
    """
    if found.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max()
    error = ((found - expected).abs().max() / scale).item()
    return error if torch.isfinite(scale) and error == error else float("inf")
