"""The parts of one RWKV-7 layer, in the parameter names of the official files.

B batch, T tokens, C width, H heads, N head size. state [B, H, V, K]: row = value.
The letters r k v kk a g, v_first and x_r .. x_g are those of the RWKV-7 paper, arXiv 2503.14456.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fseed.models.shape import RWKV7Shape
from fseed.models.text_end import TextEnd
from fseed.ops.carried_state import CarriedState
from fseed.ops.continuation import Continuation
from fseed.ops.mix_output import mix_output
from fseed.ops.relu_squared import project_relu_squared
from fseed.ops.token_mix import Weight, norm_shift_project
from fseed.ops.wkv7 import WKV7Output, wkv7
from fseed.ops.wkv7_inputs import InputVectors, Projections, wkv7_inputs


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
        continued: Continuation | None,
        end: TextEnd | None,
    ) -> tuple[Tensor, Tensor, WKV7Output, Tensor]:
        """Return the output, the next shift vector, the recurrence and v_first.

        The output is [B, T, C]; with ``end`` it is that of the last tokens alone, [B, E, C].
        """
        r, g, projections, next_previous = self._project(
            x, norm, previous, lengths, v_first, has_gate=end is None
        )
        inputs = wkv7_inputs(
            projections, self._vectors(), num_heads=self.num_heads, backend=self.backend
        )
        r = r.unflatten(-1, (self.num_heads, -1))
        recurrence = wkv7(
            *(r, *inputs),
            initial_state=initial_state,
            carried=carried,
            lengths=lengths,
            continued=continued,
            backend=self.backend,
        )
        y, k, v = recurrence.y, inputs.k, inputs.v
        if end is not None:
            # few rows meet the gate
            y, r, k, v, g = end.of(y, r, k, v, g, backend=self.backend)
            g = g @ self.g1
        g = torch.sigmoid(g) @ self.g2
        out = mix_output(y, r=r, k=k, v=v, g=g, r_k=self.r_k, norm=self.ln_x, backend=self.backend)
        v_first = projections.v if v_first is None else v_first
        return self.output(out), next_previous, recurrence, v_first

    def _project(
        self,
        x: Tensor,
        norm: nn.LayerNorm,
        previous: Tensor,
        lengths: Tensor | None,
        v_first: Tensor | None,
        *,
        has_gate: bool,
    ) -> tuple[Tensor, Tensor, Projections, Tensor]:
        """Return r, what the gate is computed from, the other projections and the shift vector.

        For the gate that is xg @ g1, or xg itself without ``has_gate``.
        """
        mixes = torch.cat((self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g)).flatten(1)
        r, k, v = (Weight(x.weight) for x in (self.receptance, self.key, self.value))
        w, a, g = (Weight(x, is_linear=False) for x in (self.w1, self.a1, self.g1))
        of_v = [v] if v_first is None else [v, Weight(self.v1, is_linear=False)]
        weights = [[r], [w], [k], of_v, [a], [g] if has_gate else []]
        (r, w_low, k, v, *v_low, a_low, g), next_previous = norm_shift_project(
            x, norm, previous, lengths, mixes, weights, backend=self.backend
        )
        projections = Projections(
            decay_low=torch.tanh(w_low) @ self.w2,
            k=k,
            v=v,
            a_low=a_low @ self.a2,
            v_low=v_low[0] @ self.v2 if v_low else None,
            v_first=v_first,
        )
        return r, g, projections, next_previous

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
        (key,), next_previous = norm_shift_project(
            x, norm, previous, lengths, self.x_k.view(1, -1), [[Weight(self.key.weight)]],
            backend=self.backend,
        )  # fmt: skip
        return project_relu_squared(key, self.value.weight, backend=self.backend), next_previous


class BlockOutput(NamedTuple):
    """What one layer hands on: to the next one, to the state of the text, to Future-Seed."""

    x: Float[Tensor, "B T C"]  # the last tokens alone, [B, E, C], where no more was wanted
    v_first: Float[Tensor, "B T C"]
    att_shift: Float[Tensor, "B C"]  # ln1 output of the last true token
    final_state: Float[Tensor, "B H V K"]
    squares: Float[Tensor, "B H rows"] | None  # sums of final_state squared, kernels only
    ffn_shift: Float[Tensor, "B C"]  # ln2 output of the last true token


class Block(nn.Module):
    """One layer: time mix and channel mix on the residual stream.

    It is the unit of sharding, so nothing outside reads its parameters, and of activation
    checkpointing: ``recompute`` keeps its inputs alone and computes it again in the backward pass.
    """

    recompute = False

    def __init__(self, shape: RWKV7Shape, *, layer: int) -> None:
        """Create the parameters; ``ln0`` exists in layer 0 only."""
        super().__init__()
        if layer == 0:
            self.ln0 = nn.LayerNorm(shape.width)
        self.ln1 = nn.LayerNorm(shape.width)
        self.ln2 = nn.LayerNorm(shape.width)
        self.att = TimeMix(shape, layer=layer)
        self.ffn = ChannelMix(shape)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        att_shift: Float[Tensor, "B C"],
        initial_state: Float[Tensor, "B H V K"],
        ffn_shift: Float[Tensor, "B C"],
        carried: CarriedState | None,
        v_first: Float[Tensor, "B T C"] | None,
        lengths: Int[Tensor, " B"] | None,
        continued: Continuation | None = None,
        end: TextEnd | None = None,
    ) -> BlockOutput:
        """Read T tokens; the shifts are the normed vectors before the first of them.

        ``continued`` are tokens behind the true ones; all states are those before them. The topmost
        layer of a text of which only the end is wanted takes that as ``end``: its output is that of
        those tokens.
        """
        start = (att_shift, initial_state, ffn_shift, carried)
        given = (x, *start, v_first, lengths, continued, end)
        if not (self.recompute and torch.is_grad_enabled()):
            return self._compute(*given)
        # nothing in a layer draws random numbers, so there is no generator to restore
        found = checkpoint(self._compute, *given, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(found, BlockOutput)
        return found

    def _compute(
        self,
        x: Tensor,
        att_shift: Tensor,
        initial_state: Tensor,
        ffn_shift: Tensor,
        carried: CarriedState | None,
        v_first: Tensor | None,
        lengths: Tensor | None,
        continued: Continuation | None,
        end: TextEnd | None,
    ) -> BlockOutput:
        x = self.ln0(x) if hasattr(self, "ln0") else x
        out, att_shift, recurrence, first = self.att(
            x, norm=self.ln1, previous=att_shift, initial_state=initial_state, carried=carried,
            v_first=v_first, lengths=lengths, continued=continued, end=end,
        )  # fmt: skip
        if end is not None:
            (x,), lengths = end.of(x, backend=self.att.backend), end.lengths
        x = x + out
        out, ffn_shift = self.ffn(x, norm=self.ln2, previous=ffn_shift, lengths=lengths)
        return BlockOutput(
            x=x + out,
            v_first=first,
            att_shift=att_shift,
            final_state=recurrence.final_state,
            squares=recurrence.squares,
            ffn_shift=ffn_shift,
        )
