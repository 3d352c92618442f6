"""The neighbours of WKV7 in plain PyTorch beside the kernels, for tests and timings.

A Neighbour holds leaves and runs on them either way: ``plain`` in the dtype of the leaves it is
given (float64 for the reference), ``forward`` and ``backward`` through the kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.token_mix import mix_tokens, shift_tokens
from fseed_kernels.neighbours import mix_output, norm_shift_mix, relu_squared, wkv7_inputs
from fseed_kernels.neighbours.launching import split_sums

Leaves = dict[str, Tensor]
EPS = 1e-5


@dataclass(frozen=True)
class Neighbour:
    """One fused operator on given leaves."""

    name: str
    leaves: Leaves
    plain: Callable[[Leaves], tuple[Tensor, ...]]
    forward: Callable[[Leaves], tuple[tuple[Tensor, ...], Any]]  # outputs, what to save
    backward: Callable[[Leaves, Any, tuple[Tensor, ...]], Leaves]
    passes: tuple[int, int]  # tensors [B, T, C] that forward and backward have to move

    def output_gradients(self, *, seed: int = 1) -> tuple[Tensor, ...]:
        """Return random gradients of the fused outputs, in their dtypes."""
        outputs, _ = self.forward(self.leaves)
        device = outputs[0].device
        generator = torch.Generator(device).manual_seed(seed)
        return tuple(
            torch.randn(out.shape, generator=generator, device=device).to(out.dtype)
            for out in outputs
        )

    def fused(self, douts: tuple[Tensor, ...]) -> Leaves:
        """Return outputs (out0 ..) and the gradient of every leaf, by the kernels."""
        outputs, saved = self.forward(self.leaves)
        gradients = self.backward(self.leaves, saved, douts)
        return _named(outputs) | {name: gradients[name] for name in self.leaves}

    def reference(self, douts: tuple[Tensor, ...], dtype: torch.dtype | None = None) -> Leaves:
        """Return the same by autograd of the plain form; in float64, or as the leaves are."""
        leaves = {
            name: leaf.detach().to(dtype or leaf.dtype, copy=True).requires_grad_()
            for name, leaf in self.leaves.items()
        }
        outputs = self.plain(leaves)
        given = [dout.to(out.dtype) for dout, out in zip(douts, outputs, strict=True)]
        gradients = torch.autograd.grad(outputs, list(leaves.values()), given)
        outputs = tuple(out.detach() for out in outputs)
        return _named(outputs) | dict(zip(leaves, gradients, strict=True))


def build_norm_shift_mix(
    *, b: int, t: int, c: int, m: int, dtype: torch.dtype, device: str,
    lengths: list[int] | None = None,
) -> Neighbour:  # fmt: skip
    """Layer norm, token shift, ``m`` lerps."""
    draw = _Draw(dtype, device)
    leaves = {
        "x": 2 * draw(b, t, c) + 0.5,
        "weight": 1 + 0.3 * draw(c),
        "bias": 0.2 * draw(c),
        "previous": draw(b, c),
        "mixes": draw(m, c).sigmoid(),
    }
    true = None if lengths is None else torch.tensor(lengths, device=device, dtype=torch.int32)

    def plain(given: Leaves) -> tuple[Tensor, ...]:
        n = F.layer_norm(given["x"], (c,), given["weight"], given["bias"], EPS)
        shifted, last = shift_tokens(n, given["previous"], true)
        return (*mix_tokens(n, shifted, given["mixes"]), last)

    def forward(given: Leaves) -> tuple[tuple[Tensor, ...], Any]:
        result = norm_shift_mix.forward(*given.values(), lengths=true, eps=EPS)
        return (*result.outs, result.last), result.statistics

    def backward(given: Leaves, statistics: Any, douts: tuple[Tensor, ...]) -> Leaves:
        arguments = (*given.values(), statistics, douts[:-1], douts[-1])
        result = norm_shift_mix.backward(*arguments, lengths=true)
        return with_parameters(result, given, "weight", "bias", "mixes")

    return Neighbour(f"norm_shift_mix {m}", leaves, plain, forward, backward, (1 + m, 2 + m))


def with_parameters(gradients: Any, given: Leaves, *names: str) -> Leaves:
    """Return all gradients by name, those of the parameters split off their sums."""
    named = gradients._asdict()
    parameters = split_sums(named.pop("sums"), *(given[name] for name in names))
    return named | dict(zip(names, parameters, strict=True))


def build_wkv7_inputs(
    *, b: int, t: int, h: int, d: int, first_layer: bool, dtype: torch.dtype, device: str
) -> Neighbour:
    """Decay logit, in-context rate, normalised key, key and value; the value above layer 0."""
    draw = _Draw(dtype, device)
    size, c = (b, t, h * d), h * d
    leaves = {name: draw(*size) for name in ("decay_low", "k", "a_low")}
    leaves |= {name: 0.5 * draw(c) for name in ("w0", "a0")}
    leaves |= {name: 0.8 + 0.3 * draw(c) for name in ("k_k", "k_a")}
    if not first_layer:
        leaves |= {name: draw(*size) for name in ("v", "v_first", "v_low")} | {"v0": draw(c)}

    def plain(given: Leaves) -> tuple[Tensor, ...]:
        k = given["k"]
        a = torch.sigmoid(given["a0"] + given["a_low"])
        kk = F.normalize((k * given["k_k"]).unflatten(-1, (h, d)), dim=-1).flatten(2)
        decay_logit = given["w0"] + given["decay_low"]
        outputs = (decay_logit, k * (1 + (a - 1) * given["k_a"]), -kk, kk * a)
        if first_layer:
            return outputs
        share = torch.sigmoid(given["v0"] + given["v_low"])
        return (*outputs, given["v"] + (given["v_first"] - given["v"]) * share)

    def value(given: Leaves) -> wkv7_inputs.Value | None:
        if first_layer:
            return None
        return wkv7_inputs.Value(*(given[name] for name in ("v", "v_first", "v_low", "v0")))

    def forward(given: Leaves) -> tuple[tuple[Tensor, ...], Any]:
        arguments = list(given.values())[:7]
        result = wkv7_inputs.forward(*arguments, head_size=d, value=value(given))
        return tuple(out for out in result if out is not None), None

    def backward(given: Leaves, saved: Any, douts: tuple[Tensor, ...]) -> Leaves:
        arguments = list(given.values())[1:7]
        dv = None if first_layer else douts[4]
        result = wkv7_inputs.backward(
            *arguments, wkv7_inputs.Prepared(*douts[:4], v=dv), head_size=d, value=value(given)
        )
        vectors = ("w0", "a0", "k_k", "k_a") if first_layer else ("w0", "a0", "k_k", "k_a", "v0")
        return {"decay_low": douts[0]} | with_parameters(result, given, *vectors)

    name = "wkv7_inputs, first layer" if first_layer else "wkv7_inputs"
    return Neighbour(name, leaves, plain, forward, backward, (7, 8) if first_layer else (11, 15))


def build_mix_output(
    *, b: int, t: int, h: int, d: int, dtype: torch.dtype, device: str
) -> Neighbour:
    """Group norm per head, bonus, gate."""
    draw = _Draw(dtype, device)
    c = h * d
    leaves = {name: draw(b, t, c) for name in ("y", "r", "k", "v", "g")}
    leaves |= {"weight": 1 + 0.3 * draw(c), "bias": 0.2 * draw(c), "r_k": 0.3 * draw(h, d)}

    def plain(given: Leaves) -> tuple[Tensor, ...]:
        y, r, k, v, g, weight, bias, r_k = given.values()
        normed = F.group_norm(y.flatten(0, 1), h, weight, bias, d * 1e-5).view_as(y)
        r, k, v = (x.unflatten(-1, (h, d)) for x in (r, k, v))
        bonus = ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)
        return ((normed + bonus) * g,)

    def forward(given: Leaves) -> tuple[tuple[Tensor, ...], Any]:
        return (mix_output.forward(*given.values()),), None

    def backward(given: Leaves, saved: Any, douts: tuple[Tensor, ...]) -> Leaves:
        result = mix_output.backward(*given.values(), *douts)
        return with_parameters(result, given, "weight", "bias", "r_k")

    return Neighbour("mix_output", leaves, plain, forward, backward, (6, 11))


def build_relu_squared(*, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Neighbour:
    """relu(h)^2."""
    leaves = {"h": _Draw(dtype, device)(*shape)}
    return Neighbour(
        "relu_squared",
        leaves,
        plain=lambda given: (torch.relu(given["h"]).square(),),
        forward=lambda given: ((relu_squared.forward(given["h"]),), None),
        backward=lambda given, saved, douts: {"h": relu_squared.backward(given["h"], *douts)},
        passes=(2, 3),
    )


class _Draw:
    """Random tensors, rounded to their dtype before anything reads them."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.generator = torch.Generator(device).manual_seed(0)
        self.dtype, self.device = dtype, device

    def __call__(self, *size: int) -> Tensor:
        drawn = torch.randn(*size, generator=self.generator, device=self.device)
        return drawn.to(self.dtype)


def _named(outputs: tuple[Tensor, ...]) -> Leaves:
    return {f"out{i}": out for i, out in enumerate(outputs)}
