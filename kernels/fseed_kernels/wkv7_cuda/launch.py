"""WKV7 forward and backward through the CUDA kernels: head size 64, bf16, chunks of 64 tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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
    scratch_dtypes,
)
from fseed_kernels.wkv7_cuda.load import loaded_kernels
from fseed_kernels.wkv7_triton.carried import carried_arguments, check_carried

HEAD_SIZE = CHUNK_SIZE = 64
# form of the scans (sources/scan.h) -> CTAs per head
SCAN_CTAS = {"columns_1": 4, "rows": 1}
# form of a forward pass in one launch (sources/forward_chained.cu) -> heads per CTA that scans
CHAINED_HEADS = {"chained_1": 1, "chained_pairs": 2}
# smallest B * H -> form of the forward pass, the largest first. H100, ms:
#   B x T x H          columns_1   chained_1   chained_pairs   rows
#   2 x 4096 x 12      0.112       0.139       0.181
#   1 x 16384 x 32     0.545       0.531       0.687
#   4 x 4096 x 12                  0.170       0.215
#   8 x 4096 x 12                  0.329       0.317           0.377
#   32 x 2048 x 12                 0.644       0.621           0.702
FORWARD_FORMS = ((80, "chained_pairs"), (32, "chained_1"), (1, "columns_1"))
CHAINED_GROUP = 128  # most heads that are scanned at a time
# The same for the backward pass in one launch (sources/backward_chained.cu). H100, milliseconds:
#   B x T x H          48 heads   132 heads   two launches
#   8 x 4096 x 12      0.429      0.439       0.449
#   32 x 2048 x 12     0.842      0.872       0.867
BACKWARD_GROUP = 48


# a kernel: called with grid, stream handle and values of its parameters
Launch = Callable[[tuple[int, int], int, Sequence[float]], None]


def forward_form(num_heads: int) -> str:
    """Return the form of the forward pass for B * H heads."""
    return next(form for smallest, form in FORWARD_FORMS if num_heads >= smallest)


def chained_group(num_heads: int, heads_per_scan: int, max_scans: int) -> int:
    """Return the heads of a group: a multiple of ``heads_per_scan``, groups as even as can be.

    Args:
        num_heads: B * H.
        heads_per_scan: of CHAINED_HEADS.
        max_scans: CTAs that may wait for others; less than fit the device at a time.
    """
    scans = _ceil_div(num_heads, heads_per_scan)
    groups = _ceil_div(scans, min(max_scans, max(1, CHAINED_GROUP // heads_per_scan)))
    return heads_per_scan * _ceil_div(scans, groups)


def forward(
    inputs: Inputs,
    *,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
    precision: str,
    keep: bool,
    form: str | None = None,
) -> Outputs:
    """Run the recurrence; see ``problem.py`` for shapes.

    Args:
        inputs: bf16, head size 64, contiguous.
        initial_state: [B, H, 64, 64] float32; None: zeros.
        carried: what is added to the initial state; None: nothing.
        lengths: int32 [B], true tokens of every sample; None: T.
        precision: "bf16".
        keep: whether a backward pass may follow.
        form: of SCAN_CTAS or CHAINED_HEADS, for timing; None: chosen by B * H. It changes no bit.

    Raises:
        ValueError: for shapes, dtypes, layouts or addresses that are not allowed.
        KernelUnavailable: for a device, head size or precision that these kernels do not have.
    """
    check_inputs(inputs, initial_state=initial_state, lengths=lengths)
    check_carried(carried, inputs)
    _check_available(inputs, precision)
    _check_alignment(*inputs.tensors, initial_state, carried and carried.state)
    b, t, h, _ = inputs.sizes
    saved, added = _allocate_scratch(inputs, keep=keep)
    outputs = Outputs(
        y=torch.empty_like(inputs.v),
        final_state=_float32(inputs, HEAD_SIZE, HEAD_SIZE),
        squares=_float32(inputs, HEAD_SIZE // ROWS_PER_SQUARE),
        saved=saved if keep else None,
    )
    states, inverse = (saved.states, saved.inverse) if keep else (None, None)
    scratch = (saved.step, added, saved.query)
    form = form or forward_form(b * h)
    with open_device(inputs.r.device) as (kernels, stream):
        pointers = _addresses(*inputs.tensors, *scratch, outputs.y, saved.total, inverse, lengths)
        chunk_values = [*pointers, t, h, int(keep)]
        *carry, bound = carried_arguments(carried)
        pointers = _addresses(
            *(*scratch, saved.total, lengths, initial_state, *carry),
            *(outputs.y, states, outputs.final_state, outputs.squares),
        )
        scan_values = [*pointers, bound, t, h]
        chunks = num_chunks(t, CHUNK_SIZE)
        if form in CHAINED_HEADS:
            heads_per_scan = CHAINED_HEADS[form]
            # at least two CTAs of forward_chained.cu fit a multiprocessor with enough shared memory
            # for the other kernels: one scan on each leaves room for the chunks that it waits for
            group = chained_group(b * h, heads_per_scan, num_multiprocessors(inputs.r.device))
            blocks = _ceil_div(b * h, group) * (group // heads_per_scan + group * chunks)
            flags = inputs.r.new_zeros(b * h, chunks, dtype=torch.int32)
            values = [*chunk_values, *scan_values, flags.data_ptr(), b * h, group]
            kernels[f"forward_{form}"]((blocks, 1), stream, values)
        else:
            kernels["forward_chunk"]((chunks, b * h), stream, chunk_values)
            kernels[f"forward_scan_{form}"]((SCAN_CTAS[form], b * h), stream, scan_values)
    return outputs


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
    form: str = "chained",
) -> Gradients:
    """Return the gradients of everything ``forward`` took.

    Args:
        inputs: as in ``forward``, like ``carried``, ``lengths`` and ``precision``.
        saved: from ``forward`` with keep=True.
        dy: [B, T, H, 64] bf16; its values on pads do not count.
        dfinal_state: [B, H, 64, 64] float32; None: zeros.
        carried: as in ``forward``.
        lengths: as in ``forward``.
        precision: "bf16".
        needs_carried: whether the gradient of ``carried.state`` is wanted.
        needs_gate: whether the gradient of ``carried.gate`` is wanted.
        form: "chained", one launch, or "rows", two, for tests and timing. It changes no bit.

    Raises:
        ValueError, KernelUnavailable: as ``forward``.
    """
    check_inputs(inputs, initial_state=dfinal_state, lengths=lengths)
    check_carried(carried, inputs)
    check_tensor("dy", dy, shape=inputs.sizes, like=inputs.r, dtype=torch.bfloat16)
    _check_available(inputs, precision)
    check_saved(saved, inputs, chunk_size=CHUNK_SIZE, dtypes=scratch_dtypes(precision))
    _check_alignment(*inputs.tensors, dy, dfinal_state, carried and carried.state)
    b, t, h, _ = inputs.sizes
    gradients = [torch.empty_like(tensor) for tensor in inputs.tensors]
    dinitial_state = _float32(inputs, HEAD_SIZE, HEAD_SIZE)
    dends = torch.empty_like(saved.states)
    dgate = _float32(inputs) if carried and needs_gate else None
    dcarried = _float32(inputs, HEAD_SIZE, HEAD_SIZE) if carried and needs_carried else None
    with open_device(inputs.r.device) as (kernels, stream):
        *carry, bound = carried_arguments(carried)
        pointers = _addresses(
            *(saved.step, saved.query, dy, saved.total, lengths, dfinal_state, *carry),
            *(dends, dinitial_state, dgate, dcarried),
        )
        scan_values = [*pointers, bound, t, h]
        pointers = _addresses(
            *(*inputs.tensors, dy, saved.states, dends, saved.inverse, *gradients, lengths)
        )
        chunk_values = [*pointers, t, h]
        chunks = num_chunks(t, CHUNK_SIZE)
        if form == "chained":
            # as even as can be
            group = _ceil_div(b * h, _ceil_div(b * h, BACKWARD_GROUP))
            blocks = _ceil_div(b * h, group) * group * (1 + chunks)
            flags = inputs.r.new_zeros(b * h, chunks, dtype=torch.int32)
            values = [*scan_values, *chunk_values, flags.data_ptr(), b * h, group]
            kernels["backward_chained"]((blocks, 1), stream, values)
        else:
            kernels[f"backward_scan_{form}"]((1, b * h), stream, scan_values)
            kernels["backward_chunk"]((chunks, b * h), stream, chunk_values)
    return Gradients(
        *gradients,
        initial_state=dinitial_state,
        gate=dgate,
        carried_state=dcarried,
    )


@contextmanager
def open_device(device: torch.device) -> Iterator[tuple[Mapping[str, Launch], int]]:
    """Make ``device`` the current one; give its kernels and the handle of its current stream."""
    if device.type != "cuda":
        raise KernelUnavailable(f"the CUDA kernels run on a CUDA device, not on {device}")
    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        yield loaded_kernels(index), torch.cuda.current_stream(index).cuda_stream


def num_multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of a CUDA device."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def _check_available(inputs: Inputs, precision: str) -> None:
    """Refuse what only the Triton kernels have."""
    if precision != "bf16" or inputs.r.dtype != torch.bfloat16:
        raise KernelUnavailable(
            f"the CUDA kernels compute in precision 'bf16' on torch.bfloat16, not in {precision!r} "
            f"on {inputs.r.dtype}: use backend triton"
        )
    if inputs.sizes[3] != HEAD_SIZE:
        raise KernelUnavailable(
            f"the CUDA kernels have head size {HEAD_SIZE}, not {inputs.sizes[3]}: "
            "use backend triton"
        )


def _check_alignment(*tensors: Tensor | None) -> None:
    """Refuse a view that 16-byte copies cannot read."""
    for tensor in tensors:
        if tensor is not None and tensor.data_ptr() % 16:
            raise ValueError(
                f"a tensor of shape {tuple(tensor.shape)} starts at an address that is no multiple "
                "of 16 bytes; call .clone() first"
            )


def _allocate_scratch(inputs: Inputs, *, keep: bool) -> tuple[Saved, Tensor]:
    """Return P, Q, G, S, X and N; S and X are empty without ``keep``."""
    b, t, h, d = inputs.sizes
    chunks = (b * h, num_chunks(t, CHUNK_SIZE))
    kept = chunks if keep else (0, 0)
    empty = inputs.r.new_empty
    saved = Saved(
        step=empty(*chunks, d, d),
        query=empty(*chunks, CHUNK_SIZE, d),
        total=empty(*chunks, d, dtype=torch.float32),
        states=empty(*kept, d, d),
        inverse=empty(*kept, CHUNK_SIZE, CHUNK_SIZE, dtype=torch.float16),
    )
    return saved, empty(*chunks, d, d)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _float32(inputs: Inputs, *sizes: int) -> Tensor:
    b, _, h, _ = inputs.sizes
    return inputs.r.new_empty(b, h, *sizes, dtype=torch.float32)


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
