"""RWKV-7 ("x070") with its full decoding state, in the parameter names of the official files.

B batch, T tokens, L layers, C width, H heads, N head size. state [B, H, V, K]: row = value.
The letters r k v kk a g, v_first and x_r .. x_g are those of the RWKV-7 paper, arXiv 2503.14456.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fseed.models.future_seed import FutureSeed
from fseed.models.shape import RWKV7Shape
from fseed.ops.token_mix import mix_tokens, shift_tokens
from fseed.ops.wkv7 import wkv7

LOG_DECAY_SCALE = -0.6065306597126334  # -exp(-0.5): log_decay lies in (-0.6066, 0)


@dataclass(frozen=True)
class ModelState:
    """All that a text continues from, after its last true token; float32."""

    att_shift: Float[Tensor, "L B C"]  # ln1 output of the last token
    wkv: Float[Tensor, "L B H V K"]
    ffn_shift: Float[Tensor, "L B C"]  # ln2 output of the last token


@dataclass(frozen=True)
class ModelOutput:
    """Hidden vectors after ln_out and the state behind the last true token."""

    hidden: Float[Tensor, "B T C"]
    state: ModelState


@dataclass(frozen=True)
class _Padding:
    """True tokens per sample and, where there is padding, which positions are true."""

    lengths: Int[Tensor, " B"] | None
    mask: Bool[Tensor, "B T"] | None


class TimeMix(nn.Module):
    """Attention replacement of one layer: lerps, projections, WKV7, group norm, bonus, gate."""

    def __init__(self, shape: RWKV7Shape, *, layer: int, backend: str) -> None:
        """Create the parameters; their values come from a checkpoint or ``initialize``."""
        super().__init__()
        width, heads, size = shape.width, shape.num_heads, shape.head_size
        self.num_heads, self.head_size, self.backend = heads, size, backend
        self.x_r, self.x_w, self.x_k = (_vector(width) for _ in range(3))
        self.x_v, self.x_a, self.x_g = (_vector(width) for _ in range(3))
        self.w0, self.a0, self.k_k, self.k_a = (_vector(width) for _ in range(4))
        self.w1, self.w2 = _low_rank(width, shape.decay_rank)
        self.a1, self.a2 = _low_rank(width, shape.in_context_rank)
        self.g1, self.g2 = _low_rank(width, shape.gate_rank)
        if layer > 0:  # layer 0 defines v_first and mixes nothing in
            self.v0 = _vector(width)
            self.v1, self.v2 = _low_rank(width, shape.value_rank)
        self.r_k = nn.Parameter(torch.zeros(heads, size))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.ln_x = nn.GroupNorm(heads, width, eps=size * 1e-5)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        previous: Float[Tensor, "B C"],
        initial_state: Float[Tensor, "B H V K"],
        v_first: Float[Tensor, "B T C"] | None,
        padding: _Padding,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the output [B, T, C], the next shift vector, the final state and v_first."""
        shifted, next_previous = shift_tokens(x, previous, padding.lengths)
        mixes = (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        xr, xw, xk, xv, xa, xg = mix_tokens(x, shifted, torch.cat(mixes).flatten(1))
        r, k = self.receptance(xr), self.key(xk)
        v: Tensor = self.value(xv)
        if v_first is None:
            v_first = v
        else:
            v = self._mix_value(xv, v, v_first)
        decay_logit = self.w0 + torch.tanh(xw @ self.w1) @ self.w2
        log_decay = LOG_DECAY_SCALE * torch.sigmoid(_at_least_float32(decay_logit))
        a = torch.sigmoid(self.a0 + (xa @ self.a1) @ self.a2)
        g = torch.sigmoid(xg @ self.g1) @ self.g2
        kk = F.normalize(self._heads(k * self.k_k), dim=-1)
        k = k * (1 + (a - 1) * self.k_a)
        r, k, v, a, log_decay = (self._heads(t) for t in (r, k, v, a, log_decay))
        y, final_state = wkv7(
            *(r, log_decay, k, v, kk, a),
            initial_state=initial_state,
            mask=padding.mask,
            backend=self.backend,
        )
        y = self.ln_x(y.flatten(0, 1).flatten(1)).view_as(x)
        bonus = ((r * k * self.r_k).sum(-1, keepdim=True) * v).flatten(2)
        return self.output((y + bonus) * g), next_previous, final_state, v_first

    def _mix_value(self, xv: Tensor, v: Tensor, v_first: Tensor) -> Tensor:
        share = torch.sigmoid(self.v0 + (xv @ self.v1) @ self.v2)
        return v + (v_first - v) * share

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_size))


def _vector(width: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, width))


def _low_rank(width: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Applied as x @ [C, rank], then @ [rank, C]; the swapped, transposed product fits as well."""
    return nn.Parameter(torch.zeros(width, rank)), nn.Parameter(torch.zeros(rank, width))


class ChannelMix(nn.Module):
    """Feed-forward part of one layer: token shift, squared ReLU."""

    def __init__(self, shape: RWKV7Shape) -> None:
        """Create the parameters."""
        super().__init__()
        self.x_k = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.key = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.value = nn.Linear(shape.ffn_width, shape.width, bias=False)

    def forward(
        self, x: Float[Tensor, "B T C"], *, previous: Float[Tensor, "B C"], padding: _Padding
    ) -> tuple[Tensor, Tensor]:
        """Return the output [B, T, C] and the next shift vector [B, C]."""
        shifted, next_previous = shift_tokens(x, previous, padding.lengths)
        (mixed,) = mix_tokens(x, shifted, self.x_k.view(1, -1))
        hidden = self.key(mixed)
        return self.value(torch.relu(hidden).square()), next_previous


class Block(nn.Module):
    """One layer: time mix and channel mix on the residual stream."""

    def __init__(self, shape: RWKV7Shape, *, layer: int, backend: str) -> None:
        """Create the parameters; ``ln0`` exists in layer 0 only."""
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(shape.width)
        self.ln1 = nn.LayerNorm(shape.width)
        self.ln2 = nn.LayerNorm(shape.width)
        self.att = TimeMix(shape, layer=layer, backend=backend)
        self.ffn = ChannelMix(shape)


class RWKV7(nn.Module):
    """The backbone. ``state_dict()`` has exactly the official names and shapes."""

    def __init__(self, shape: RWKV7Shape, *, backend: str = "chunked") -> None:
        """Create the parameters of ``shape``; values come from a checkpoint or ``initialize``."""
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(shape.vocab_size, shape.width)
        blocks = [Block(shape, layer=i, backend=backend) for i in range(shape.num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.ln_out = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        lengths: Int[Tensor, " B"] | None = None,
        state: ModelState | None = None,
        future_seed: FutureSeed | None = None,
        added: Float[Tensor, "B T C"] | None = None,
    ) -> ModelOutput:
        """Read T tokens from ``state`` (zero at the start of a text).

        ``lengths`` counts the true tokens of right-padded rows; pads change no state. With
        ``future_seed`` each seeded layer starts from the final state of the layer below, added to
        its part of ``state``. ``added`` is added to the token embeddings. The hidden vectors on
        pads mean nothing.
        """
        padding = _Padding(lengths, _length_mask(lengths, tokens.shape[1]))
        state = self.zero_state(tokens.shape[0]) if state is None else state
        embedded = self.emb(tokens) if added is None else self.emb(tokens) + added
        x = self.layers[0].ln0(embedded)
        v_first, previous_state = None, None
        finals: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, block in enumerate(self.layers):
            initial_state = state.wkv[i]
            if future_seed is not None and previous_state is not None and future_seed.is_seeded(i):
                last = _last_true(x, lengths)
                initial_state = initial_state + future_seed.carry(
                    previous_state, layer=i, x_last=last
                )
            out, att_shift, previous_state, v_first = block.att(
                block.ln1(x), previous=state.att_shift[i], initial_state=initial_state,
                v_first=v_first, padding=padding,
            )  # fmt: skip
            x = x + out
            out, ffn_shift = block.ffn(block.ln2(x), previous=state.ffn_shift[i], padding=padding)
            x = x + out
            shifts = (_at_least_float32(att_shift), _at_least_float32(ffn_shift))
            finals.append((shifts[0], previous_state, shifts[1]))
        att_shifts, wkvs, ffn_shifts = (torch.stack(parts) for parts in zip(*finals, strict=True))
        return ModelOutput(self.ln_out(x), ModelState(att_shifts, wkvs, ffn_shifts))

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return cast(list[Block], list(self.blocks))

    def logits(self, hidden: Float[Tensor, "*S C"]) -> Float[Tensor, "*S vocab"]:
        """Project hidden vectors to the vocabulary."""
        return self.head(hidden)

    def zero_state(self, batch_size: int) -> ModelState:
        """Return the state before the first token of a text."""
        shape, weight = self.shape, self.emb.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        zeros = torch.zeros(
            shape.num_layers, batch_size, shape.width, dtype=dtype, device=weight.device
        )
        size = (shape.num_layers, batch_size, shape.num_heads, shape.head_size, shape.head_size)
        wkv = torch.zeros(size, dtype=dtype, device=weight.device)
        return ModelState(zeros, wkv, zeros)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _length_mask(lengths: Tensor | None, num_tokens: int) -> Tensor | None:
    if lengths is None:
        return None
    return torch.arange(num_tokens, device=lengths.device) < lengths.unsqueeze(1)


def _last_true(x: Float[Tensor, "B T C"], lengths: Tensor | None) -> Float[Tensor, "B C"]:
    """Return the vector of the last true token of every row."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]
