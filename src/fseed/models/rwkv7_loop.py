"""RWKV-7 as a float64 loop over tokens and heads in numpy: slow, plain, sharing no code.

An oracle for parity where the ``rwkv`` package cannot serve: it fixes the epsilon of the group
norm to 64e-5, which is right for heads of size 64 only. C width, N head size, state [V, K] with
row = value. Source of the formulas: the RWKV-7 paper, arXiv 2503.14456, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]


@dataclass
class LayerState:
    """What one layer remembers of the tokens read so far."""

    att_shift: Array  # [C]
    wkv: Array  # [H, V, K]
    ffn_shift: Array  # [C]


def run_loop(
    weights: Weights, tokens: Sequence[int], *, group_norm_eps: float | None = None
) -> tuple[Array, list[LayerState]]:
    """Return the logits [T, vocab] of ``tokens`` from the zero state and every layer's last state.

    ``weights`` has official names and shapes. ``group_norm_eps`` defaults to N * 1e-5.
    """
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    heads, size = w["blocks.0.att.r_k"].shape
    eps = size * 1e-5 if group_norm_eps is None else group_norm_eps
    num_layers = sum(name.endswith(".att.r_k") for name in w)
    width = heads * size
    states = [
        LayerState(np.zeros(width), np.zeros((heads, size, size)), np.zeros(width))
        for _ in range(num_layers)
    ]
    logits = []
    for token in tokens:
        x = _layer_norm(w["emb.weight"][token], w, "blocks.0.ln0")
        v_first: Array | None = None
        for i, state in enumerate(states):
            block = _part(w, f"blocks.{i}.")
            normed = _layer_norm(x, block, "ln1")
            out, v_first = _time_mix(normed, _part(block, "att."), state, v_first, eps=eps)
            x = x + out
            normed = _layer_norm(x, block, "ln2")
            x = x + _channel_mix(normed, _part(block, "ffn."), state)
        logits.append(w["head.weight"] @ _layer_norm(x, w, "ln_out"))
    return np.stack(logits), states


def _time_mix(
    x: Array, w: Weights, state: LayerState, v_first: Array | None, *, eps: float
) -> tuple[Array, Array]:
    mixed = {n: x + (state.att_shift - x) * w[f"x_{n}"].reshape(-1) for n in "rwkvag"}
    state.att_shift = x
    r = w["receptance.weight"] @ mixed["r"]
    k = w["key.weight"] @ mixed["k"]
    v = w["value.weight"] @ mixed["v"]
    if v_first is None:
        v_first = v
    else:
        v = v + (v_first - v) * _sigmoid(w["v0"].reshape(-1) + mixed["v"] @ w["v1"] @ w["v2"])
    decay_logit = w["w0"].reshape(-1) + np.tanh(mixed["w"] @ w["w1"]) @ w["w2"]
    decay = np.exp(-np.exp(-0.5) * _sigmoid(decay_logit))
    a = _sigmoid(w["a0"].reshape(-1) + mixed["a"] @ w["a1"] @ w["a2"])
    g = _sigmoid(mixed["g"] @ w["g1"]) @ w["g2"]
    removal = k * w["k_k"].reshape(-1)
    k = k * (1 + (a - 1) * w["k_a"].reshape(-1))
    heads, size = w["r_k"].shape
    y = np.empty_like(x)
    for h in range(heads):
        s = slice(h * size, (h + 1) * size)
        kk = removal[s] / max(np.linalg.norm(removal[s]), 1e-12)
        wkv = state.wkv[h]
        # what the state holds under kk is taken out where a is 1, and v is put in under k
        wkv = wkv * decay[s] - np.outer(wkv @ kk, kk * a[s]) + np.outer(v[s], k[s])
        state.wkv[h] = wkv
        read = wkv @ r[s]
        read = (read - read.mean()) / np.sqrt(read.var() + eps)
        read = read * w["ln_x.weight"][s] + w["ln_x.bias"][s]
        y[s] = read + (r[s] * k[s] * w["r_k"][h]).sum() * v[s]
    return w["output.weight"] @ (y * g), v_first


def _channel_mix(x: Array, w: Weights, state: LayerState) -> Array:
    mixed = x + (state.ffn_shift - x) * w["x_k"].reshape(-1)
    state.ffn_shift = x
    return w["value.weight"] @ np.maximum(w["key.weight"] @ mixed, 0) ** 2


def _layer_norm(x: Array, w: Weights, name: str) -> Array:
    normed = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return normed * w[f"{name}.weight"] + w[f"{name}.bias"]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _part(w: Weights, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): w[name] for name in w if name.startswith(prefix)}
