"""WKV7's custom operators over the kernels: torch.compile and CUDA graphs see one node each.

B batch, T tokens, H heads, D head size; inputs [B, T, H, D], states [B, H, D, D] float32. The
kernels themselves, without autograd, stand in fseed_kernels; here they get their fake (shape-only)
implementations and their derivative.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fseed.ops.kernel_backends import approved_launcher, approved_variant
from fseed_kernels.launchers import Launcher, saved_chunk_size
from fseed_kernels.problem import (
    ROWS_PER_SQUARE,
    Carried,
    Inputs,
    Saved,
    scratch_dtypes,
)

DECODE_TOKENS = 16  # without gradient, so few tokens run one after the other, in float32


def _carried(
    state: Tensor | None, squares: Tensor | None, gate: Tensor | None, clip: float
) -> Carried | None:
    if state is None or gate is None:
        return None
    return Carried(state=state, squares=squares, gate=gate, clip=clip)


@torch.library.custom_op("fseed::wkv7_forward", mutates_args=())
def wkv7_forward(
    r: Tensor,
    decay_logit: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    carried_state: Tensor | None,
    carried_squares: Tensor | None,
    gate: Tensor | None,
    clip: float,
    lengths: Tensor | None,
    backend: str,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y, final_state, squares and what the backward pass reads: ``Saved``, in its order."""
    inputs = Inputs(r, decay_logit, k, v, alpha, beta)
    launcher = _launcher(inputs, backend, precision)
    outputs = launcher.forward(
        inputs,
        initial_state=initial_state,
        carried=_carried(carried_state, carried_squares, gate, clip),
        lengths=lengths,
        precision=precision,
        keep=True,
    )
    saved = outputs.saved
    assert saved is not None  # keep=True
    kept = (saved.step, saved.query, saved.total, saved.states, saved.inverse)
    return (outputs.y, outputs.final_state, outputs.squares, *kept)


@wkv7_forward.register_fake
def _(
    r, decay_logit, k, v, alpha, beta, initial_state, carried_state, carried_squares, gate, clip,
    lengths, backend, precision,
):  # fmt: skip
    b, t, h, d = r.shape
    call = {"device": r.device, "precision": precision, "head_size": d}
    size = saved_chunk_size(backend, **call, variant=approved_variant(backend, **call))
    chunks = (t + size - 1) // size
    scratch, inverse = scratch_dtypes(precision)
    blocks = (b * h, chunks)
    return (
        *_fake_outputs(r),
        r.new_empty((*blocks, d, d), dtype=scratch),
        r.new_empty((*blocks, size, d), dtype=scratch),
        r.new_empty((*blocks, d), dtype=torch.float32),
        r.new_empty((*blocks, d, d), dtype=scratch),
        r.new_empty((*blocks, size, size), dtype=inverse),
    )


def _fake_outputs(r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, _, h, d = r.shape
    final_state = r.new_empty((b, h, d, d), dtype=torch.float32)
    squares = r.new_empty((b, h, d // ROWS_PER_SQUARE), dtype=torch.float32)
    return torch.empty_like(r), final_state, squares


@torch.library.custom_op("fseed::wkv7_inference", mutates_args=())
def wkv7_inference(
    r: Tensor,
    decay_logit: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    carried_state: Tensor | None,
    carried_squares: Tensor | None,
    gate: Tensor | None,
    clip: float,
    lengths: Tensor | None,
    backend: str,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, final_state and squares; nothing is kept for a backward pass."""
    inputs = Inputs(r, decay_logit, k, v, alpha, beta)
    launcher = _launcher(inputs, backend, precision)
    start = {
        "initial_state": initial_state,
        "carried": _carried(carried_state, carried_squares, gate, clip),
        "lengths": lengths,
    }
    if r.shape[1] <= DECODE_TOKENS:
        outputs = launcher.decode(inputs, **start)
    else:
        outputs = launcher.forward(inputs, **start, precision=precision, keep=False)
    return outputs.y, outputs.final_state, outputs.squares


@wkv7_inference.register_fake
def _(
    r, decay_logit, k, v, alpha, beta, initial_state, carried_state, carried_squares, gate, clip,
    lengths, backend, precision,
):  # fmt: skip
    return _fake_outputs(r)


@torch.library.custom_op("fseed::wkv7_backward", mutates_args=())
def wkv7_backward(
    r: Tensor,
    decay_logit: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    step: Tensor,
    query: Tensor,
    total: Tensor,
    states: Tensor,
    inverse: Tensor,
    dy: Tensor,
    dfinal_state: Tensor | None,
    carried_state: Tensor | None,
    carried_squares: Tensor | None,
    gate: Tensor | None,
    clip: float,
    lengths: Tensor | None,
    backend: str,
    precision: str,
    needs_gate: bool,
    needs_carried: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the six inputs, initial_state, gate and carried_state.

    The last two are empty where there is nothing to differentiate.
    """
    inputs = Inputs(r, decay_logit, k, v, alpha, beta)
    gradients = _launcher(inputs, backend, precision).backward(
        inputs,
        Saved(step, query, total, states, inverse),
        dy,
        dfinal_state,
        carried=_carried(carried_state, carried_squares, gate, clip),
        lengths=lengths,
        precision=precision,
        needs_gate=needs_gate,
        needs_carried=needs_carried,
    )
    carried_gradients = [
        total.new_empty(0) if x is None else x for x in (gradients.gate, gradients.carried_state)
    ]
    return (
        gradients.r,
        gradients.decay_logit,
        gradients.k,
        gradients.v,
        gradients.alpha,
        gradients.beta,
        gradients.initial_state,
        carried_gradients[0],
        carried_gradients[1],
    )


@wkv7_backward.register_fake
def _(
    r, decay_logit, k, v, alpha, beta, step, query, total, states, inverse, dy, dfinal_state,
    carried_state, carried_squares, gate, clip, lengths, backend, precision, needs_gate,
    needs_carried,
):  # fmt: skip
    b, _, h, d = r.shape
    inputs = [torch.empty_like(x) for x in (r, decay_logit, k, v, alpha, beta)]
    dgate = (b, h) if needs_gate else (0,)
    dcarried = (b, h, d, d) if needs_carried else (0,)
    return (*inputs, *(total.new_empty(s) for s in ((b, h, d, d), dgate, dcarried)))


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    initial_state, carried_state, carried_squares, gate, clip, lengths, backend, precision = inputs[
        6:
    ]
    _, _, squares, *kept = output
    # without this, autograd fills a zero gradient for each of them
    ctx.mark_non_differentiable(squares, *kept)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:6], *kept, carried_state, carried_squares, gate, lengths)
    ctx.clip, ctx.backend, ctx.precision = clip, backend, precision
    ctx.has_initial_state = initial_state is not None


def _backward(ctx: Any, dy: Tensor | None, dfinal_state: Tensor | None, *_: Any) -> tuple[Any, ...]:
    needs_carried, needs_gate = ctx.needs_input_grad[7], ctx.needs_input_grad[9]
    *inputs, dinitial_state, dgate, dcarried = gradients_of(
        ctx.saved_tensors,
        dy,
        dfinal_state,
        clip=ctx.clip,
        options=(ctx.backend, ctx.precision),
        needs=(needs_gate, needs_carried),
    )
    return (
        *inputs,
        dinitial_state if ctx.has_initial_state else None,
        dcarried if needs_carried else None,
        None,
        dgate if needs_gate else None,
        *(None,) * 4,
    )


def gradients_of(
    saved: Sequence[Tensor | None],
    dy: Tensor | None,
    dfinal_state: Tensor | None,
    *,
    clip: float,
    options: tuple[str, str],
    needs: tuple[bool, bool],
) -> tuple[Tensor, ...]:
    """Return what ``wkv7_backward`` returns.

    ``saved``: the inputs, what ``wkv7_forward`` returns behind its squares, the carried state with
    its squares and gate, lengths. ``options``: backend and precision. ``needs``: the gradients of
    gate and carried state.
    """
    *kept, carried_state, carried_squares, gate, lengths = saved
    assert kept[0] is not None
    dy = torch.zeros_like(kept[0]) if dy is None else dy.contiguous()
    if dfinal_state is not None:
        dfinal_state = dfinal_state.contiguous()
    carried = (carried_state, carried_squares, gate, clip)
    return wkv7_backward(*kept, dy, dfinal_state, *carried, lengths, *options, *needs)


wkv7_forward.register_autograd(_backward, setup_context=_keep_for_backward)


def _launcher(inputs: Inputs, backend: str, precision: str) -> Launcher:
    b, _, h, d = inputs.sizes
    return approved_launcher(
        backend, device=inputs.r.device, precision=precision, head_size=d, num_heads=h, batch_size=b
    )
