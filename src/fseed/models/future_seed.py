"""Future-Seed: each layer's recurrence starts from a gated copy of the layer below's final state.

B batch, H heads, C width; states [B, H, V, K] float32. For every layer i >= max(1, lstart):

    final_state[i-1] -> detach -> rms norm -> strength * gate -> clip = carried_state
    initial_state[i] = carried_state + the explicit state of layer i (zero at the start of a text)

so a deep layer reads the prompt already knowing how the layer below saw its end. A control puts
another state in the place of final_state[i-1], see ``controls.py``; all the rest stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fseed.errors import UserError
from fseed.models.controls import LearnedState, random_state_like
from fseed.models.sharded import whole
from fseed.ops.carried_state import CarriedState


@dataclass(frozen=True, kw_only=True)
class FutureSeedOptions:
    """Everything that shapes the carried state; names as in the config groups."""

    gate: str = "scalar"  # scalar | head | inputgate | raw
    norm: str = "rms"  # rms | none
    detach: bool = True
    clip: float = 1.0  # bound on every entry, 0 = off
    seed_scale: float = 1.0
    lstart: int = 1  # first seeded layer
    alpha_init: float = -2.0
    head_init: float = -3.0
    schedule: str = "none"  # none | linear | cosine
    schedule_low: float = 1.0
    schedule_high: float = 1.0
    # none | shuffled_state | random_state | learned_state | same_layer
    control: str = "none"


def schedule_value(
    kind: str, *, layer: int, start: int, last: int, low: float, high: float
) -> float:
    """Return the strength of ``layer`` between the first seeded layer and the last one.

    >>> round(schedule_value("cosine", layer=7, start=6, last=11, low=0.4, high=1.0), 3)
    0.457
    """
    if kind == "none":
        return 1.0
    progress = 1.0 if last <= start else min(max((layer - start) / (last - start), 0.0), 1.0)
    if kind == "cosine":
        progress = 0.5 - 0.5 * math.cos(math.pi * progress)
    return low + (high - low) * progress


class FutureSeed(nn.Module):
    """Gates of all seeded layers and the transform of the carried state.

    Parameters are float32, one row per seeded layer: ``gate_logit`` [S]; ``head_logit`` [S, H]
    (head); ``input_weight`` [S, C] and ``input_bias`` [S] (inputgate). The control learned_state
    has its constant, [S, H, N, N], in ``learned_state``.
    """

    def __init__(
        self, options: FutureSeedOptions, *, num_layers: int, num_heads: int, width: int
    ) -> None:
        """Create the gates of layers max(1, lstart) .. num_layers - 1.

        Raises:
            UserError: if ``lstart`` is negative.
        """
        super().__init__()
        if options.lstart < 0:
            raise UserError(f"lstart={options.lstart}; allowed: 1..{num_layers - 1}")
        self.options, self.width = options, width
        self.start = max(1, options.lstart)
        self.strengths = [
            options.seed_scale
            * schedule_value(
                options.schedule, layer=i, start=self.start, last=num_layers - 1,
                low=options.schedule_low, high=options.schedule_high,
            )
            for i in range(self.start, num_layers)
        ]  # fmt: skip
        seeded = len(self.strengths)
        self.gate_logit = nn.Parameter(torch.full((seeded,), options.alpha_init))
        if options.gate == "head":
            self.head_logit = nn.Parameter(torch.full((seeded, num_heads), options.head_init))
        if options.gate == "inputgate":
            self.input_weight = nn.Parameter(torch.zeros(seeded, width))
            self.input_bias = nn.Parameter(torch.zeros(seeded))
        self.learned_state: LearnedState | None = None
        if options.control == "learned_state":
            self.learned_state = LearnedState(
                num_seeded=seeded, num_heads=num_heads, head_size=width // num_heads
            )

    @property
    def reads_twice(self) -> bool:
        """Tell whether a text is read once before the pass that is seeded (same_layer)."""
        return self.options.control == "same_layer"

    def is_seeded(self, layer: int) -> bool:
        """Tell whether ``layer`` starts from the layer below."""
        return layer >= self.start

    def carry(
        self,
        previous_final_state: Float[Tensor, "B H V K"],
        squares: Float[Tensor, "B H rows"] | None = None,
        *,
        layer: int,
        x_last: Float[Tensor, "B C"],
        noise_keys: Sequence[int] | None = None,
    ) -> CarriedState:
        """Describe what ``layer`` starts from; wkv7 computes it while it loads the state.

        ``previous_final_state`` is that of the layer below (same_layer: the layer's own, of the
        first pass). ``x_last`` is the residual input of ``layer`` at the last true prompt token,
        ``squares`` the sums of squares of the state where the kernel that produced it has written
        them, ``noise_keys`` what the noise of each sample depends on (random_state).
        """
        options = self.options
        state = previous_final_state.detach() if options.detach else previous_final_state
        match options.control:
            case "shuffled_state":
                state = state.roll(1, dims=0)
                squares = None if squares is None else squares.roll(1, dims=0)
            case "random_state":
                # its squares differ from those of the state by rounding
                state, squares = random_state_like(state, keys=noise_keys, layer=layer), None
            case "learned_state":
                assert self.learned_state is not None
                state = self.learned_state.for_batch(state, seeded=layer - self.start)
                squares = None
        # gates and states are float32 by contract; autocast would round the input gate's product
        with torch.autocast(device_type=state.device.type, enabled=False):
            gate = self.strengths[layer - self.start] * self.gate(layer=layer, x_last=x_last)
        return CarriedState(
            state=state,
            squares=squares,
            normalize=options.norm == "rms",
            gate=gate.expand(state.shape[:2]),
            clip=options.clip,
        )

    def gate(self, *, layer: int, x_last: Float[Tensor, "B C"]) -> Float[Tensor, "..."]:
        """Return the gate of ``layer``, broadcastable to [B, H]."""
        i, logit = layer - self.start, self.gate_logit[layer - self.start]
        match self.options.gate:
            case "raw":
                return logit
            case "head":
                return logit.sigmoid() * self.head_logit[i].sigmoid()
            case "inputgate":
                score = (
                    x_last.to(self.input_weight.dtype)
                    @ self.input_weight[i]
                    / math.sqrt(self.width)
                )
                return (logit + score + self.input_bias[i]).sigmoid().unsqueeze(-1)
            case _:
                return logit.sigmoid()

    def gate_values(self) -> list[float]:
        """Return strength times gate of every seeded layer: without input, mean over heads.

        Where the gates are sharded, every rank must call this.
        """
        return self.gate_tensor(self.gate_logit.new_tensor(self.strengths)).tolist()

    @torch.no_grad()
    def gate_tensor(self, strengths: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        """Return ``gate_values`` on the device of ``strengths``: nothing is read to the host."""
        logit = whole(self.gate_logit)
        gates = logit if self.options.gate == "raw" else logit.sigmoid()
        if self.options.gate == "head":
            gates = gates * whole(self.head_logit).sigmoid().mean(1)
        if self.options.gate == "inputgate":
            gates = (logit + whole(self.input_bias)).sigmoid()
        return gates * strengths
