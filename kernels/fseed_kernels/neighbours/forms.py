"""The neighbours of WKV7 in plain PyTorch beside the kernels.

A Neighbour holds leaves and runs on them either way: ``plain`` in the dtype of the leaves it is
given (float64 for the reference), ``forward`` and ``backward`` through the kernels.

B batch, T tokens, C width, M mixes, H heads, D head size. ``dtype`` is what the kernels compute
in; with ``autocast`` the parameters and the residual stream are float32 beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed_kernels.neighbours import mix_output, norm_shift_mix, relu_squared, wkv7_inputs
from fseed_kernels.neighbours.launching import split_sums

Leaves = dict[str, Tensor]
EPS = 1e-5  # of the layer norm; the group norm has D times it


@dataclass(frozen=True)
class Neighbour:
    """One fused operator on given leaves."""

    name: str
    leaves: Leaves
    plain: Callable[[Leaves], tuple[Tensor, ...]]
    forward: Callable[[Leaves], tuple[tuple[Tensor, ...], Any]]  # outputs, what to save
    backward: Callable[[Leaves, Any, tuple[Tensor, ...]], Leaves]

    def output_gradients(self, *, seed: int = 1) -> tuple[Tensor, ...]:
        """Return random gradients of the fused outputs, in their dtypes."""
        outputs, _ = self.forward(self.leaves)
        generator = torch.Generator(outputs[0].device).manual_seed(seed)
        # in place: right outputs do not lie in the memory that the next outputs get
        return tuple(out.normal_(generator=generator) for out in outputs)

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
    *, b: int, t: int, c: int, m: int, dtype: torch.dtype, device: str | torch.device,
    lengths: list[int] | None = None, autocast: bool = False, reads_last: bool = True,
) -> Neighbour:  # fmt: skip
    """Layer norm, token shift, ``m`` lerps; nothing reads ``last`` without ``reads_last``."""
    draw = _Draw(torch.float32 if autocast else dtype, device)
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
        extended = torch.cat((given["previous"].unsqueeze(1), n), dim=1)
        delta = extended[:, :-1] - n
        outs = tuple(n + delta * mix for mix in given["mixes"])
        ends = [t] * b if lengths is None else lengths
        return (*outs, extended[range(b), ends]) if reads_last else outs

    def forward(given: Leaves) -> tuple[tuple[Tensor, ...], Any]:
        result = norm_shift_mix.forward(*given.values(), lengths=true, eps=EPS, dtype=dtype)
        outputs = (*result.outs, result.last) if reads_last else result.outs
        return outputs, result.statistics

    def backward(given: Leaves, statistics: Any, douts: tuple[Tensor, ...]) -> Leaves:
        dlast = douts[m] if reads_last else None
        result = norm_shift_mix.backward(
            *given.values(), statistics=statistics, douts=douts[:m], dlast=dlast, lengths=true
        )
        return _with_parameters(result, given, "weight", "bias", "mixes")

    return Neighbour(f"norm_shift_mix {m}", leaves, plain, forward, backward)


def _with_parameters(gradients: Any, given: Leaves, *names: str) -> Leaves:
    """Return all gradients by name, those of the parameters split off their sums."""
    named = gradients._asdict()
    parameters = split_sums(named.pop("sums"), *(given[name] for name in names))
    return named | dict(zip(names, parameters, strict=True))


def build_wkv7_inputs(
    *, b: int, t: int, h: int, d: int, first_layer: bool,
    dtype: torch.dtype, device: str | torch.device, autocast: bool = False,
) -> Neighbour:  # fmt: skip
    """Decay logit, in-context rate, normalised key, key and value; the value above layer 0."""
    draw = _Draw(dtype, device)
    draw_parameter = _Draw(torch.float32 if autocast else dtype, device, seed=2)
    size, c = (b, t, h * d), h * d
    leaves = {name: draw(*size) for name in ("decay_low", "k", "a_low")}
    leaves |= {name: 0.5 * draw_parameter(c) for name in ("w0", "a0")}
    leaves |= {name: 0.8 + 0.3 * draw_parameter(c) for name in ("k_k", "k_a")}
    if not first_layer:
        leaves |= {name: draw(*size) for name in ("v", "v_first", "v_low")}
        leaves["v0"] = draw_parameter(c)

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
        prepared = wkv7_inputs.Prepared(*douts[:4], v=dv)
        result = wkv7_inputs.backward(
            *arguments, gradients=prepared, head_size=d, value=value(given)
        )
        vectors = ("w0", "a0", "k_k", "k_a") if first_layer else ("w0", "a0", "k_k", "k_a", "v0")
        return {"decay_low": douts[0]} | _with_parameters(result, given, *vectors)

    name = "wkv7_inputs, first layer" if first_layer else "wkv7_inputs"
    return Neighbour(name, leaves, plain, forward, backward)


def build_mix_output(
    *, b: int, t: int, h: int, d: int, eps: float | None = None,
    dtype: torch.dtype, device: str | torch.device, autocast: bool = False,
) -> Neighbour:  # fmt: skip
    """Group norm per head, bonus, gate; ``eps`` None: that of RWKV-7."""
    draw = _Draw(dtype, device)
    draw_parameter = _Draw(torch.float32 if autocast else dtype, device, seed=2)
    c, eps = h * d, d * EPS if eps is None else eps
    leaves = {name: draw(b, t, c) for name in ("y", "r", "k", "v", "g")}
    leaves |= {"weight": 1 + 0.3 * draw_parameter(c), "bias": 0.2 * draw_parameter(c)}
    leaves["r_k"] = 0.3 * draw_parameter(h, d)

    def plain(given: Leaves) -> tuple[Tensor, ...]:
        y, r, k, v, g, weight, bias, r_k = given.values()
        normed = F.group_norm(y.flatten(0, 1), h, weight, bias, eps).view_as(y)
        r, k, v = (x.unflatten(-1, (h, d)) for x in (r, k, v))
        bonus = ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)
        return ((normed + bonus) * g,)

    def forward(given: Leaves) -> tuple[tuple[Tensor, ...], Any]:
        return (mix_output.forward(*given.values(), eps=eps),), None

    def backward(given: Leaves, saved: Any, douts: tuple[Tensor, ...]) -> Leaves:
        result = mix_output.backward(*given.values(), *douts, eps=eps)
        return _with_parameters(result, given, "weight", "bias", "r_k")

    return Neighbour("mix_output", leaves, plain, forward, backward)


def build_relu_squared(
    *, shape: tuple[int, ...], dtype: torch.dtype, device: str | torch.device
) -> Neighbour:
    """relu(h)^2."""
    leaves = {"h": _Draw(dtype, device)(*shape)}
    return Neighbour(
        "relu_squared",
        leaves,
        plain=lambda given: (torch.relu(given["h"]).square(),),
        forward=lambda given: ((relu_squared.forward(given["h"]),), None),
        backward=lambda given, saved, douts: {"h": relu_squared.backward(given["h"], *douts)},
    )


class _Draw:
    """Random tensors, rounded to their dtype before anything reads them."""

    def __init__(self, dtype: torch.dtype, device: str | torch.device, *, seed: int = 0) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.dtype, self.device = dtype, device

    def __call__(self, *size: int) -> Tensor:
        drawn = torch.randn(*size, generator=self.generator, device=self.device)
        return drawn.to(self.dtype)


def _named(outputs: tuple[Tensor, ...]) -> Leaves:
    return {f"out{i}": out for i, out in enumerate(outputs)}
