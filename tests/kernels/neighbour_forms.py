"""The neighbours of the kernel tests and timings: forms of the self-check, the model's lerps."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.token_mix import mix_tokens, shift_tokens
from fseed_kernels.neighbours import forms
from fseed_kernels.neighbours.forms import (
    EPS,
    Leaves,
    Neighbour,
    build_mix_output,
    build_relu_squared,
    build_wkv7_inputs,
)

__all__ = [
    "Neighbour",
    "build_mix_output",
    "build_norm_shift_mix",
    "build_relu_squared",
    "build_wkv7_inputs",
]


def build_norm_shift_mix(*, lengths: list[int] | None = None, **sizes: Any) -> Neighbour:
    """Build it with the plain operators of the model, which are what the kernels stand against."""

    def plain(given: Leaves) -> tuple[Tensor, ...]:
        x = given["x"]
        true = None if lengths is None else torch.tensor(lengths, device=x.device)
        n = F.layer_norm(x, x.shape[-1:], given["weight"], given["bias"], EPS)
        shifted, last = shift_tokens(n, given["previous"], true)
        return (*mix_tokens(n, shifted, given["mixes"]), last)

    return replace(forms.build_norm_shift_mix(lengths=lengths, **sizes), plain=plain)
