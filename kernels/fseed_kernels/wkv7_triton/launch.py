"""The Triton backend: forward, backward and decode of one call, on tensors that are checked here.

Everything is allocated with torch.empty and launched on the current stream of the inputs' device,
without synchronising, so that a CUDA graph can capture a call after a first one has compiled it.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.problem import (
    ROWS_PER_SQUARE,
    Carried,
    Gradients,
    Inputs,
    Outputs,
    Saved,
    check_inputs,
    check_saved,
    check_tensor,
    num_chunks,
)
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.backward_keys import launch_backward_chunks
from fseed_kernels.wkv7_triton.backward_scan import launch_backward_scan
from fseed_kernels.wkv7_triton.carried import check_carried, launch_carried_gradient
from fseed_kernels.wkv7_triton.decode import launch_decode
from fseed_kernels.wkv7_triton.forward_chunk import launch_forward_chunk
from fseed_kernels.wkv7_triton.forward_scan import launch_forward_scan
from fseed_kernels.wkv7_triton.math import INTERPRETED, arithmetic, is_masked


def forward(
    inputs: Inputs,
    *,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
    precision: str,
    keep: bool,
    variant: str = "default",
) -> Outputs:
    """Run the recurrence over all tokens, in chunks.

    ``keep``: also keep what ``backward`` needs. ``lengths`` int32 [B] counts true tokens, 0 .. T;
    None: all of them. Shapes and dtypes as in problem.py.

    Raises:
        ValueError: for tensors that the kernels do not read, naming what is allowed.
        KernelUnavailable: where Triton cannot run.
    """
    _check(inputs, initial_state=initial_state, carried=carried, lengths=lengths)
    b, t, h, d = inputs.sizes
    numbers = arithmetic(precision)
    arch = sizes.architecture(inputs.r.device)
    chunk_size = sizes.chunk_size(precision, d, arch, variant)
    heads_chunks = (b * h, num_chunks(t, chunk_size))

    def empty(*shape: int, dtype: torch.dtype = numbers.scratch) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=inputs.r.device)

    step, added = empty(*heads_chunks, d, d), empty(*heads_chunks, d, d)
    query = empty(*heads_chunks, chunk_size, d)
    total = empty(*heads_chunks, d, dtype=torch.float32)
    # of one dtype either way, so that both ways run the same compiled kernel
    kept = heads_chunks if keep else (0, 0)
    states = empty(*kept, d, d)
    inverse = empty(*kept, chunk_size, chunk_size, dtype=numbers.scratch_inverse)
    y, (final_state, squares) = torch.empty_like(inputs.v), _empty_states(inputs)
    products = {"step": step, "added": added, "query": query, "total": total, "y": y}
    common = {"keep": keep, "lengths": lengths, "precision": precision, "variant": variant}
    with _on(inputs.r.device):
        launch_forward_chunk(inputs, **products, inverse=inverse, **common)
        launch_forward_scan(
            **products,
            initial_state=initial_state,
            carried=carried,
            states=states,
            final_state=final_state,
            squares=squares,
            **common,
        )
    saved = None
    if keep:
        saved = Saved(step=step, query=query, total=total, states=states, inverse=inverse)
    return Outputs(y=y, final_state=final_state, squares=squares, saved=saved)


def backward(
    inputs: Inputs,
    saved: Saved,
    dy: Tensor,
    dfinal_state: Tensor | None,
    *,
    carried: Carried | None,
    lengths: Tensor | None,
    precision: str,
    needs_carried: bool = False,
    needs_gate: bool = True,
    variant: str = "default",
) -> Gradients:
    """Return all gradients; the arguments are those of the forward call that gave ``saved``.

    ``dy`` [B, T, H, D] has the dtype of the inputs; what it holds on pads does not matter.
    ``dfinal_state`` [B, H, D, D] float32; None: zeros. ``needs_carried``: also the gradient of
    ``carried.state``; ``needs_gate``: that of ``carried.gate``.

    Raises:
        ValueError: for tensors that the kernels do not read, naming what is allowed.
        KernelUnavailable: where Triton cannot run.
    """
    _check(inputs, initial_state=None, carried=carried, lengths=lengths)
    b, t, h, d = inputs.sizes
    check_tensor("dy", dy, shape=(b, t, h, d), like=inputs.r, dtype=inputs.r.dtype)
    chunk_size = sizes.chunk_size(precision, d, sizes.architecture(dy.device), variant)
    numbers = arithmetic(precision)
    dtypes = (numbers.scratch, numbers.scratch_inverse)
    check_saved(saved, inputs, chunk_size=chunk_size, dtypes=dtypes)
    if dfinal_state is not None:
        shape = (b, h, d, d)
        check_tensor("dfinal_state", dfinal_state, shape=shape, like=inputs.r, dtype=torch.float32)
    ddecay_logit = torch.empty_like(inputs.decay_logit)
    end = _place_of_end(saved, ddecay_logit, lengths)
    dinitial_state, gate_partials = _empty_states(inputs)
    dgate = dcarried = None
    followed = carried if needs_gate or needs_carried else None
    common = {"lengths": lengths, "precision": precision, "variant": variant}
    with _on(inputs.r.device):
        launch_backward_scan(
            saved,
            dy=dy,
            dfinal_state=dfinal_state,
            carried=followed,
            end=end,
            dinitial_state=dinitial_state,
            gate_partials=None if followed is None else gate_partials,
            **common,
        )
        dr, dk, dv, dalpha, dbeta = launch_backward_chunks(
            inputs,
            dy,
            states=saved.states,
            end=end,
            inverse=saved.inverse,
            ddecay_logit=ddecay_logit,
            **common,
        )
        if followed is not None:
            dgate, dcarried = carried_gradient(
                followed, dinitial_state, gate_partials, needs_state=needs_carried
            )
    return Gradients(
        r=dr,
        decay_logit=ddecay_logit,
        k=dk,
        v=dv,
        alpha=dalpha,
        beta=dbeta,
        initial_state=dinitial_state,
        gate=dgate if needs_gate else None,
        carried_state=dcarried,
    )


def decode(
    inputs: Inputs,
    *,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
) -> Outputs:
    """Run few tokens one after the other in float32, without gradient (``saved`` is None).

    Raises:
        ValueError: for tensors that the kernels do not read, naming what is allowed.
        KernelUnavailable: where Triton cannot run.
    """
    _check(inputs, initial_state=initial_state, carried=carried, lengths=lengths)
    y, (final_state, squares) = torch.empty_like(inputs.v), _empty_states(inputs)
    with _on(inputs.r.device):
        launch_decode(
            inputs,
            initial_state=initial_state,
            carried=carried,
            lengths=lengths,
            y=y,
            final_state=final_state,
            squares=squares,
        )
    return Outputs(y=y, final_state=final_state, squares=squares, saved=None)


def carried_gradient(
    carried: Carried, dinitial_state: Tensor, gate_partials: Tensor, *, needs_state: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the gate [B, H] and, where needed, of the state [B, H, D, D].

    ``dinitial_state`` [B, H, D, D] and ``gate_partials`` [B, H, D / 16] are those of a backward
    scan, all float32.
    """
    dgate = torch.empty_like(carried.gate)
    dstate = torch.empty_like(carried.state) if needs_state else None
    with _on(carried.state.device):
        launch_carried_gradient(
            carried,
            dinitial_state=dinitial_state,
            gate_partials=gate_partials,
            dgate=dgate,
            dstate=dstate,
        )
    return dgate, dstate


def _check(
    inputs: Inputs,
    *,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
) -> None:
    check_inputs(inputs, initial_state=initial_state, lengths=lengths)
    check_carried(carried, inputs)
    device = inputs.r.device
    if device.type != ("cpu" if INTERPRETED else "cuda"):
        needed = "CPU tensors (TRITON_INTERPRET=1 is set)" if INTERPRETED else "a CUDA device"
        raise KernelUnavailable(f"the inputs are on {device}; the Triton kernels need {needed}")


def _place_of_end(saved: Saved, ddecay_logit: Tensor, lengths: Tensor | None) -> Tensor:
    """Return memory for E: that of ddecay_logit, which is written last, if E fits in its tokens."""
    chunk_size, d = saved.query.shape[2:]
    whole = not is_masked(ddecay_logit.shape[1], chunk_size, lengths)
    if whole and chunk_size == d and ddecay_logit.dtype == saved.step.dtype:
        return ddecay_logit
    return torch.empty_like(saved.step)


def _empty_states(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Allocate a state [B, H, D, D] and sums over its rows [B, H, D / 16]."""
    b, _, h, d = inputs.sizes
    options = {"dtype": torch.float32, "device": inputs.r.device}
    sums = torch.empty((b, h, d // ROWS_PER_SQUARE), **options)
    return torch.empty((b, h, d, d), **options), sums


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Make ``device`` the current one for the launches; the caller's comes back after them."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
