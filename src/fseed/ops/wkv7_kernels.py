"""WKV7 on the kernels: what the operators take, and texts that are read on in their rows.

B batch, T tokens, H heads, D head size; inputs [B, T, H, D], states [B, H, D, D] float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fseed.ops.carried_state import CarriedState, sum_squares
from fseed.ops.continuation import Continuation
from fseed.ops.kernel_dtype import kernel_dtype
from fseed.ops.row_kernels import put_all_rows_, take_all_rows
from fseed.ops.wkv7_operators import gradients_of, wkv7_forward, wkv7_inference
from fseed_kernels.problem import Inputs, check_inputs

NOTHING_CARRIED = (None, None, None, 0.0)  # state, squares, gate, clip


def wkv7_kernels(
    r: Tensor,
    decay_logit: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None,
    carried: CarriedState | None,
    lengths: Tensor | None,
    backend: str,
    precision: str | None = None,
    continued: Continuation | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the final state and its sums of squares; differentiable once in every input.

    Inputs of mixed dtypes are brought to bf16 under autocast, otherwise to the dtype of ``v``.
    ``precision`` "bf16" or "high" (float32 operands through tf32 products); None: by the dtype.
    ``continued`` as in ``wkv7``.

    Raises:
        ValueError: for shapes or dtypes that the kernels do not read.
        KernelUnavailable: where ``backend`` cannot run, or failed its check on this device.
    """
    dtype = kernel_dtype(v)
    inputs = [x.to(dtype).contiguous() for x in (r, decay_logit, k, v, alpha, beta)]
    if initial_state is not None:
        initial_state = initial_state.float().contiguous()
    if lengths is not None:
        lengths = lengths.to(torch.int32)
    check_inputs(Inputs(*inputs), initial_state=initial_state, lengths=lengths)
    if precision is None:
        precision = "bf16" if dtype == torch.bfloat16 else "high"
    start, options = (initial_state, *_carried_arguments(carried)), (backend, precision)
    arguments = (*inputs, *start, lengths, *options)
    if needs_gradient((*inputs, *start)):
        if continued is None:
            return wkv7_forward(*arguments)[:3]
        return _ReadOn.apply(continued.rows, continued.lengths, *arguments)
    text = wkv7_inference(*arguments)
    return text if continued is None else _read_on(inputs, text, continued, options)


def _read_on(
    inputs: Sequence[Tensor],
    text: tuple[Tensor, Tensor, Tensor],
    continued: Continuation,
    options: tuple[str, str],
) -> tuple[Tensor, Tensor, Tensor]:
    """Write what stands behind a text into its y."""
    y, final_state, _ = text
    parts = take_all_rows(list(inputs), continued.rows)
    rest = wkv7_inference(*parts, final_state, *NOTHING_CARRIED, continued.lengths, *options)
    put_all_rows_([y], continued.rows, [rest[0]])
    return text


class _ReadOn(torch.autograd.Function):
    """Two scans with one y and one gradient of every input: nothing of full size is added up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, own_lengths: Tensor, *arguments: Any):
        inputs, (initial_state, *carried, ctx.clip) = arguments[:6], arguments[6:11]
        lengths, backend, precision = arguments[11:]
        ctx.options = backend, precision
        y, final_state, squares, *kept = wkv7_forward(*arguments)
        parts = take_all_rows(list(inputs), rows)
        start = (final_state, *NOTHING_CARRIED)
        own_y, _, _, *own_kept = wkv7_forward(*parts, *start, own_lengths, *ctx.options)
        put_all_rows_([y], rows, [own_y])
        ctx.mark_non_differentiable(squares)
        ctx.set_materialize_grads(False)
        of_text = (*inputs, *kept, *carried, lengths)
        ctx.save_for_backward(
            *(rows, *of_text), *(*parts, *own_kept, *NOTHING_CARRIED[:3], own_lengths)
        )
        ctx.has_initial_state = initial_state is not None
        return y, final_state, squares

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        dy, dfinal_state, _ = gradients
        rows, *saved = ctx.saved_tensors
        of_text, of_rest = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        own_dy = None if dy is None else take_all_rows([dy.contiguous()], rows)[0]
        *own, dend, _, _ = gradients_of(
            of_rest, own_dy, None, clip=0.0, options=ctx.options, needs=(False, False)
        )
        dfinal_state = dend if dfinal_state is None else dend + dfinal_state
        needs_carried, needs_gate = ctx.needs_input_grad[9], ctx.needs_input_grad[11]
        *dinputs, dinitial_state, dgate, dcarried = gradients_of(
            of_text, dy, dfinal_state, clip=ctx.clip, options=ctx.options,
            needs=(needs_gate, needs_carried),
        )  # fmt: skip
        put_all_rows_(dinputs, rows, own)
        return (
            *(None, None, *dinputs),
            dinitial_state if ctx.has_initial_state else None,
            *(dcarried if needs_carried else None, None, dgate if needs_gate else None),
            *(None,) * 4,
        )


def needs_gradient(arguments: tuple[Any, ...]) -> bool:
    """Tell whether a backward pass may follow."""
    tensors = (x for x in arguments if isinstance(x, Tensor))
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def _carried_arguments(
    carried: CarriedState | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, float]:
    if carried is None:
        return NOTHING_CARRIED
    state = carried.state.contiguous()
    squares = carried.squares
    if not carried.normalize:
        squares = None
    elif squares is None:
        squares = sum_squares(state.detach())
    return state, squares, carried.gate.float().contiguous(), carried.clip
