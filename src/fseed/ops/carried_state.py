"""Future-Seed's carried state, before it is computed: kernels apply it while they load a state.

B batch, H heads; states [B, H, V, K] float32.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fseed_kernels.problem import MEAN_SQUARE_FLOOR, ROWS_PER_SQUARE


@dataclass(frozen=True, kw_only=True)
class CarriedState:
    """clip(gate * state / rms): what a layer starts from, given by its parts."""

    state: Float[Tensor, "B H V K"]  # final state of the layer below, detached where asked
    squares: Float[Tensor, "B H rows"] | None  # its sums of squares, from the kernel that wrote it
    normalize: bool  # divide by the rms over the two state axes, per sample and head
    gate: Float[Tensor, "B H"]  # strength times gate
    clip: float  # bound on every entry, 0: none


def materialize(carried: CarriedState) -> Float[Tensor, "B H V K"]:
    """Compute the carried state in plain PyTorch: the reference of the fused load."""
    state = carried.state
    if carried.normalize:
        mean_square = state.square().mean(dim=(-2, -1), keepdim=True)
        # floor before the root: the root's derivative at 0 is infinite
        state = state / mean_square.clamp_min(MEAN_SQUARE_FLOOR).sqrt()
    state = state * carried.gate[:, :, None, None]
    return state.clamp(-carried.clip, carried.clip) if carried.clip > 0 else state


def sum_squares(state: Float[Tensor, "B H V K"]) -> Float[Tensor, "B H rows"]:
    """Return the sums of squares over 16 rows each, where no kernel has written them."""
    return state.square().unflatten(2, (-1, ROWS_PER_SQUARE)).sum((-2, -1))
