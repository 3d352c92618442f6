"""One entry to the WKV7 recurrence: masks, dtypes and the choice of the backend."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fseed.errors import UserError
from fseed.ops.wkv7_chunked import wkv7_chunked
from fseed.ops.wkv7_reference import wkv7_reference

BACKENDS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "reference": wkv7_reference,
    "chunked": wkv7_chunked,
}


def wkv7(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    kk: Float[Tensor, "B T H K"],
    a: Float[Tensor, "B T H K"],
    *,
    initial_state: Float[Tensor, "B H V K"] | None = None,
    mask: Bool[Tensor, "B T"] | None = None,
    backend: str = "chunked",
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H V K"]]:
    """Run the RWKV-7 state recurrence over T tokens.

    ``log_decay`` is the logarithm of the decay, in (-0.6066, 0); ``kk`` the normalised removal key;
    ``a`` the in-context learning rate in (0, 1). Where ``mask`` is False the token is an exact
    identity on the state. float64 inputs are computed in float64, all others in float32; ``y`` has
    the dtype of ``v`` and the final state the computing dtype.

    Raises:
        UserError: for a backend that does not exist or cannot run here; none is ever replaced.
    """
    compute = torch.float64 if v.dtype == torch.float64 else torch.float32
    inputs = [x.to(compute) for x in (r, log_decay, k, v, kk, a)]
    if mask is not None:
        # decay 1, k = 0 and kk = 0 leave the state as it is
        hole = ~mask[:, :, None, None]
        for i in (1, 2, 4):
            inputs[i] = inputs[i].masked_fill(hole, 0.0)
    if initial_state is None:
        initial_state = inputs[0].new_zeros(r.shape[0], r.shape[2], v.shape[-1], r.shape[-1])
    # autocast would round the products to bf16; the recurrence is float32 by contract
    with torch.autocast(device_type=v.device.type, enabled=False):
        y, final_state = find_backend(backend)(*inputs, initial_state.to(compute))
    return y.to(v.dtype), final_state


def find_backend(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the operator behind ``name`` or raise UserError with the names that run here."""
    if name not in BACKENDS:
        raise UserError(
            f"wkv7 backend {name!r} cannot run here; available: {', '.join(BACKENDS)}. "
            "The triton backend comes with the kernel package."
        )
    return BACKENDS[name]
