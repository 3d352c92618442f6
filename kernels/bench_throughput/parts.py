"""Which part of the step a kernel belongs to: by its name, its operator and the sizes it got."""

from collections.abc import Sequence
from dataclasses import dataclass

from fseed.models.shape import RWKV7Shape

PARTS = (
    *("embedding", "norm, shift, mix", "projections", "low rank", "wkv7 inputs", "wkv7 forward"),
    *("wkv7 backward", "mix output", "channel mix", "loss", "clip", "optimiser", "casts"),
    # of a replayed graph, which tells no sizes
    *("matrix products", "transfers", "everything else"),
)

# names of kernels, ours first; the first that is part of a name counts
KERNEL_NAMES = (
    ("norm_shift_mix", "norm, shift, mix"),
    ("wkv7_inputs", "wkv7 inputs"),
    ("mix_output", "mix output"),
    ("relu_squared", "channel mix"),
    ("cross_entropy", "loss"),
    ("scale_in_place", "loss"),
    ("embedding", "embedding"),
    ("sum_rows", "embedding"),
    ("sum_runs", "embedding"),
    ("sum_ids", "embedding"),
    ("radixsort", "embedding"),
    ("forward_chunk", "wkv7 forward"),
    ("forward_scan", "wkv7 forward"),
    ("forward_chained", "wkv7 forward"),
    ("forward_pairs", "wkv7 forward"),
    ("carried", "wkv7 forward"),
    ("backward_", "wkv7 backward"),
    ("adam", "optimiser"),
    ("lpnorm", "clip"),
    ("nll_loss", "loss"),
    ("softmax", "loss"),
    ("memcpy", "transfers"),
    ("memset", "transfers"),
)
OPERATORS = (
    ("aten::embedding", "embedding"),
    ("aten::sort", "embedding"),
    ("aten::unique", "embedding"),
    ("aten::_fused_adamw_", "optimiser"),
    ("aten::_foreach_norm", "clip"),
    ("aten::_foreach_mul_", "clip"),
    ("aten::linalg_vector_norm", "clip"),
    ("aten::nll_loss", "loss"),
    ("aten::_log_softmax", "loss"),
    ("aten::native_layer_norm", "norm, shift, mix"),
    ("aten::native_group_norm", "mix output"),
)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::linear")
GEMM_NAMES = ("gemm", "nvjet", "cutlass", "xmma", "cublas")
COPIES = ("aten::copy_", "aten::_to_copy", "aten::to")


@dataclass(frozen=True)
class Work:
    """Something that ran: a kernel, or on a CPU an operator. Unknown fields are empty."""

    kernel: str
    operator: str
    sizes: tuple[tuple[int, ...], ...]  # of the operator's inputs
    ranges: tuple[str, ...]  # names around it, innermost first
    microseconds: float


def part_of(work: Work, shape: RWKV7Shape) -> str:
    """Return the name of the part."""
    name = work.kernel.lower()
    is_product = work.operator in PRODUCTS or any(each in name for each in GEMM_NAMES)
    if is_product:
        return product_part(work.sizes, shape)
    found = _first(name, KERNEL_NAMES) or _first(work.operator, OPERATORS)
    if found is not None:
        return found
    return "casts" if work.operator in COPIES else "everything else"


def product_part(sizes: Sequence[Sequence[int]], shape: RWKV7Shape) -> str:
    """Tell a matrix product by its sizes: vocabulary, channels of the channel mix, rank, width."""
    dims = {size for each in sizes for size in each[-2:]}
    ranks = {shape.decay_rank, shape.in_context_rank, shape.value_rank, shape.gate_rank}
    if not dims:
        return "matrix products"
    if shape.vocab_size in dims:
        return "loss"
    if shape.ffn_width in dims:
        return "channel mix"
    if dims & ranks and shape.width in dims:
        return "low rank"
    return "projections" if shape.width in dims else "wkv7 forward"


def _first(text: str, names: Sequence[tuple[str, str]]) -> str | None:
    return next((part for name, part in names if name in text), None)
