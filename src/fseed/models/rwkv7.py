"""RWKV-7 ("x070") with its full decoding state, in the parameter names of the official files.

B batch, T tokens, L layers, C width, H heads, N head size. state [B, H, V, K]: row = value.
The letters r k v kk a g, v_first and x_r .. x_g are those of the RWKV-7 paper, arXiv 2503.14456.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fseed.models.future_seed import FutureSeed
from fseed.models.shape import RWKV7Shape
from fseed.ops.carried_state import CarriedState
from fseed.ops.mix_output import mix_output
from fseed.ops.relu_squared import relu_squared
from fseed.ops.token_mix import norm_shift_mix
from fseed.ops.wkv7 import WKV7Output, check_backend, wkv7
from fseed.ops.wkv7_inputs import InputVectors, Projections, wkv7_inputs


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


class TimeMix(nn.Module):
    """Attention replacement of one layer: lerps, projections, WKV7, group norm, bonus, gate."""

    backend = "chunked"  # see RWKV7.use_backend

    def __init__(self, shape: RWKV7Shape, *, layer: int) -> None:
        """Create the parameters; their values come from a checkpoint or ``initialize``."""
        super().__init__()
        width, heads, size = shape.width, shape.num_heads, shape.head_size
        self.num_heads, self.head_size = heads, size
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
        norm: nn.LayerNorm,
        previous: Float[Tensor, "B C"],
        initial_state: Float[Tensor, "B H V K"],
        carried: CarriedState | None,
        v_first: Float[Tensor, "B T C"] | None,
        lengths: Int[Tensor, " B"] | None,
    ) -> tuple[Tensor, Tensor, WKV7Output, Tensor]:
        """Return the output [B, T, C], the next shift vector, the recurrence and v_first."""
        mixes = (self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)
        (xr, xw, xk, xv, xa, xg), next_previous = norm_shift_mix(
            x, norm, previous, lengths, torch.cat(mixes).flatten(1), backend=self.backend
        )
        r, projections = self.receptance(xr), self._project(xw, xk, xv, xa, v_first)
        g = torch.sigmoid(xg @ self.g1) @ self.g2
        inputs = wkv7_inputs(
            projections, self._vectors(), num_heads=self.num_heads, backend=self.backend
        )
        r = r.unflatten(-1, (self.num_heads, -1))
        recurrence = wkv7(
            *(r, *inputs),
            initial_state=initial_state,
            carried=carried,
            lengths=lengths,
            backend=self.backend,
        )
        out = mix_output(
            recurrence.y, r=r, k=inputs.k, v=inputs.v, g=g, r_k=self.r_k, norm=self.ln_x,
            backend=self.backend,
        )  # fmt: skip
        v_first = projections.v if v_first is None else v_first
        return self.output(out), next_previous, recurrence, v_first

    def _project(
        self, xw: Tensor, xk: Tensor, xv: Tensor, xa: Tensor, v_first: Tensor | None
    ) -> Projections:
        first = v_first is None
        return Projections(
            decay_low=torch.tanh(xw @ self.w1) @ self.w2,
            k=self.key(xk),
            v=self.value(xv),
            a_low=(xa @ self.a1) @ self.a2,
            v_low=None if first else (xv @ self.v1) @ self.v2,
            v_first=v_first,
        )

    def _vectors(self) -> InputVectors:
        v0 = self.v0 if hasattr(self, "v0") else None
        return InputVectors(w0=self.w0, a0=self.a0, k_k=self.k_k, k_a=self.k_a, v0=v0)


def _vector(width: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, width))


def _low_rank(width: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Applied as x @ [C, rank], then @ [rank, C]; the swapped, transposed product fits as well."""
    return nn.Parameter(torch.zeros(width, rank)), nn.Parameter(torch.zeros(rank, width))


class ChannelMix(nn.Module):
    """Feed-forward part of one layer: token shift, squared ReLU."""

    backend = "chunked"  # see RWKV7.use_backend

    def __init__(self, shape: RWKV7Shape) -> None:
        """Create the parameters."""
        super().__init__()
        self.x_k = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.key = nn.Linear(shape.width, shape.ffn_width, bias=False)
        self.value = nn.Linear(shape.ffn_width, shape.width, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        norm: nn.LayerNorm,
        previous: Float[Tensor, "B C"],
        lengths: Int[Tensor, " B"] | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the output [B, T, C] and the next shift vector [B, C]."""
        (mixed,), next_previous = norm_shift_mix(
            x, norm, previous, lengths, self.x_k.view(1, -1), backend=self.backend
        )
        return self.value(relu_squared(self.key(mixed), backend=self.backend)), next_previous


class Block(nn.Module):
    """One layer: time mix and channel mix on the residual stream."""

    def __init__(self, shape: RWKV7Shape, *, layer: int) -> None:
        """Create the parameters; ``ln0`` exists in layer 0 only."""
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(shape.width)
        self.ln1 = nn.LayerNorm(shape.width)
        self.ln2 = nn.LayerNorm(shape.width)
        self.att = TimeMix(shape, layer=layer)
        self.ffn = ChannelMix(shape)


class RWKV7(nn.Module):
    """The backbone. ``state_dict()`` has exactly the official names and shapes."""

    def __init__(self, shape: RWKV7Shape) -> None:
        """Create the parameters of ``shape``; values come from a checkpoint or ``initialize``."""
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer=i) for i in range(shape.num_layers))
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
        noise_keys: Sequence[int] | None = None,
    ) -> ModelOutput:
        """Read T tokens from ``state`` (zero at the start of a text).

        ``lengths`` counts the true tokens of right-padded rows; pads change no state. With
        ``future_seed`` each seeded layer starts from the final state of the layer below, added to
        its part of ``state`` (the controls differ, see ``controls.py``; random_state takes
        ``noise_keys``, one a sample). ``added`` is added to the token embeddings. The hidden
        vectors on pads mean nothing.
        """
        lengths = None if lengths is None else lengths.to(torch.int32)
        state = self.zero_state(tokens.shape[0]) if state is None else state
        own = None
        if future_seed is not None and future_seed.reads_twice:
            is_cut = future_seed.options.detach
            own = self._own_final_states(tokens, lengths, state, added, with_graph=not is_cut)
        embedded = self.emb(tokens) if added is None else self.emb(tokens) + added
        x = self.layers[0].ln0(embedded)
        v_first, below = None, None
        finals: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, block in enumerate(self.layers):
            carried = None
            if future_seed is not None and below is not None and future_seed.is_seeded(i):
                carried = future_seed.carry(
                    below.final_state if own is None else own[i],
                    layer=i,
                    x_last=_last_true(x, lengths),
                    squares=below.squares if own is None else None,
                    noise_keys=noise_keys,
                )
            out, att_shift, below, v_first = block.att(
                x, norm=block.ln1, previous=state.att_shift[i], initial_state=state.wkv[i],
                carried=carried, v_first=v_first, lengths=lengths,
            )  # fmt: skip
            x = x + out
            out, ffn_shift = block.ffn(
                x, norm=block.ln2, previous=state.ffn_shift[i], lengths=lengths
            )
            x = x + out
            shifts = (_at_least_float32(att_shift), _at_least_float32(ffn_shift))
            finals.append((shifts[0], below.final_state, shifts[1]))
        att_shifts, wkvs, ffn_shifts = (torch.stack(parts) for parts in zip(*finals, strict=True))
        return ModelOutput(self.ln_out(x), ModelState(att_shifts, wkvs, ffn_shifts))

    def _own_final_states(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        state: ModelState,
        added: Tensor | None,
        *,
        with_graph: bool,
    ) -> Float[Tensor, "L B H V K"]:
        """Read the text once without Future-Seed: the first pass of the control same_layer."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and with_graph):
            own = self(tokens, lengths=lengths, state=state, added=added).state.wkv
        if not with_graph:
            # up to torch 2.9 at least, autocast would use weights cast here, without a graph, again
            torch.clear_autocast_cache()
        return own

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return cast(list[Block], list(self.blocks))

    def use_backend(self, name: str) -> None:
        """Compute every layer with the operators ``name`` (see ``fseed.ops.wkv7.BACKENDS``).

        Raises:
            UserError: for a name that does not exist.
        """
        check_backend(name)
        for block in self.layers:
            block.att.backend = block.ffn.backend = name

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


def _last_true(x: Float[Tensor, "B T C"], lengths: Tensor | None) -> Float[Tensor, "B C"]:
    """Return the vector of the last true token of every row."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]
