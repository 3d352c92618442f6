"""One entry to the WKV7 recurrence: lengths, dtypes, Future-Seed's state and the backend.

B batch, T tokens, H heads, K key and V value size. state [B, H, V, K]: row = value, column = key.
alpha = -kk and beta = kk * a, as the kernels take them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fseed.errors import UserError
from fseed.ops.carried_state import CarriedState, materialize
from fseed.ops.continuation import Continuation, check_continued
from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.rows import put_rows, take_rows
from fseed.ops.wkv7_chunked import wkv7_chunked
from fseed.ops.wkv7_kernels import wkv7_kernels
from fseed.ops.wkv7_reference import wkv7_reference

LOG_DECAY_SCALE = -0.6065306597126334  # -exp(-0.5): log_decay lies in (-0.6066, 0)
PLAIN_BACKENDS = ("reference", "chunked")
BACKENDS = (*PLAIN_BACKENDS, *KERNEL_BACKENDS)


class WKV7Output(NamedTuple):
    """What the recurrence returns."""

    y: Float[Tensor, "B T H V"]  # dtype of v; 0 on pads
    final_state: Float[Tensor, "B H V K"]  # after the last true token
    squares: Float[Tensor, "B H rows"] | None  # sums of final_state squared, kernels only


def wkv7(
    r: Float[Tensor, "B T H K"],
    decay_logit: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    alpha: Float[Tensor, "B T H K"],
    beta: Float[Tensor, "B T H K"],
    *,
    initial_state: Float[Tensor, "B H V K"] | None = None,
    carried: CarriedState | None = None,
    lengths: Int[Tensor, " B"] | None = None,
    continued: Continuation | None = None,
    backend: str = "chunked",
) -> WKV7Output:
    """Run the RWKV-7 state recurrence over T tokens.

    log_decay = -exp(-0.5) * sigmoid(decay_logit). The scan starts from ``initial_state`` plus the
    carried state, each zero where it is None. ``lengths`` counts the true tokens of right-padded
    rows; a pad is an exact identity on the state. ``continued`` are tokens behind the true ones
    that read on from the final state, which stays the one before them.

    The plain backends compute float64 inputs in float64 and all others in float32; the kernels
    compute bf16 inputs in bf16 with float32 states and float32 inputs through tf32 products.

    Raises:
        UserError: for a backend that does not exist; none is ever replaced.
        ValueError: for ``continued`` without ``lengths``.
        KernelUnavailable: where a kernel cannot run, or failed its check on this device.
    """
    check_backend(backend)
    check_continued(continued, lengths)
    inputs = (r, decay_logit, k, v, alpha, beta)
    start = {"initial_state": initial_state, "carried": carried}
    if backend in KERNEL_BACKENDS:
        given = {"lengths": lengths, "continued": continued, "backend": backend}
        return WKV7Output(*wkv7_kernels(*inputs, **start, **given))
    text = _plain(inputs, **start, lengths=lengths, backend=backend)
    if continued is None:
        return text
    parts = take_rows(inputs, continued.rows, backend=backend)
    start = {"initial_state": text.final_state, "carried": None}
    rest = _plain(parts, **start, lengths=continued.lengths, backend=backend)
    return text._replace(y=put_rows(text.y, continued.rows, rest.y))


def _plain(
    inputs: tuple[Tensor, ...],
    *,
    initial_state: Tensor | None,
    carried: CarriedState | None,
    lengths: Tensor | None,
    backend: str,
) -> WKV7Output:
    compute = torch.float64 if inputs[3].dtype == torch.float64 else torch.float32
    dtype, given = inputs[3].dtype, [x.to(compute) for x in inputs]
    given[1] = torch.sigmoid(given[1])
    if backend == "reference":
        given[1] = LOG_DECAY_SCALE * given[1]
    if lengths is not None and backend == "reference":
        # decay 1, k = 0 and alpha = 0 leave the state as it is; r = 0 makes y 0
        pad = torch.arange(given[0].shape[1], device=lengths.device) >= lengths.unsqueeze(1)
        for i in (0, 1, 2, 4):
            given[i] = given[i].masked_fill(pad[:, :, None, None], 0.0)
    # autocast would round the products to bf16; the recurrence is float32 by contract
    with torch.autocast(device_type=given[3].device.type, enabled=False):
        given.append(_start(given[0], given[3], initial_state, carried))
        if backend == "reference":
            y, final_state = wkv7_reference(*given)
        else:
            y, final_state = wkv7_chunked(*given, lengths=lengths, decay_scale=LOG_DECAY_SCALE)
    return WKV7Output(y.to(dtype), final_state, None)


def _start(
    r: Tensor, v: Tensor, initial_state: Tensor | None, carried: CarriedState | None
) -> Tensor:
    if initial_state is None:
        initial_state = r.new_zeros(r.shape[0], r.shape[2], v.shape[-1], r.shape[-1])
    initial_state = initial_state.to(r.dtype)
    return initial_state if carried is None else initial_state + materialize(carried)


def check_backend(name: str) -> None:
    """Refuse a name that is no backend, with the names that are.

    Raises:
        UserError: always for such a name; none is ever replaced.
    """
    if name not in BACKENDS:
        raise UserError(f"wkv7 backend {name!r} does not exist; allowed: {', '.join(BACKENDS)}")
