"""What the WKV7 kernels share: arithmetic per precision, fast functions, products, loads, inverse.

C chunk_size, D head size, NC chunks of a row, ``bh`` = b * H + h. Constexprs are upper case:

    OPERAND   dtype of the operands of products; accumulators are always float32
    INVERSE   dtype of the operands of products with X
    PRODUCTS  input_precision of products with float32 operands (16-bit operands ignore it)
    FAST      approximate exp2 and reciprocal by inline assembly (2 ulp); off in the interpreter
    MASKED    some chunk may have pads: T % C != 0, or lengths are given
"""

# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false
# triton types its tensors as floats and tuples, and static_range as no iterator
import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOG2_E = tl.constexpr(1.4426950408889634)
LOG_DECAY_SCALE = tl.constexpr(-0.6065306597126334)  # -exp(-0.5)
LOG2_DECAY_SCALE = tl.constexpr(-0.6065306597126334 * 1.4426950408889634)


@dataclass(frozen=True)
class Arithmetic:
    """Dtypes of one precision: constexprs of the kernels and dtypes of their scratch tensors."""

    operand: tl.dtype
    inverse: tl.dtype
    products: str
    fast: bool
    scratch: torch.dtype  # step, added, query, states
    scratch_inverse: torch.dtype


def arithmetic(precision: str) -> Arithmetic:
    """Return the arithmetic of precision "bf16" or "high"; float32 throughout in the interpreter.

    Raises:
        ValueError: for another precision.
    """
    if precision not in ("bf16", "high"):
        raise ValueError(f"precision {precision!r}; the kernels have bf16, high")
    if INTERPRETED:  # its products of 16-bit operands are wrong (triton 3.6 to 3.9)
        exact = (tl.float32, tl.float32, "ieee", False)
        return Arithmetic(*exact, scratch=torch.float32, scratch_inverse=torch.float32)
    if precision == "high":
        high = (tl.float32, tl.float32, "tf32", True)
        return Arithmetic(*high, scratch=torch.float32, scratch_inverse=torch.float32)
    # |X| and |Aab| stay near 1: fp16 has the 11 bits of tf32 there. e^-g does not fit fp16: bf16
    half = (tl.bfloat16, tl.float16, "tf32", True)
    return Arithmetic(*half, scratch=torch.bfloat16, scratch_inverse=torch.float16)


def is_masked(num_tokens: int, chunk_size: int, lengths: Tensor | None) -> bool:
    """Return whether some chunk may have pads; without them the kernels have no masks at all."""
    return lengths is not None or num_tokens % chunk_size != 0


def is_in_tokens(end: Tensor, states: Tensor) -> bool:
    """Return whether E lies in a tensor of tokens [B, T, H, D]: value v of a chunk as token v."""
    return end.shape != states.shape


@triton.jit
def exp2(x, FAST: tl.constexpr):
    """2^x, float32."""
    if FAST:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def reciprocal(x, FAST: tl.constexpr):
    """1 / x, float32."""
    if FAST:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / x


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    """1 / (1 + e^-x), float32."""
    return reciprocal(1.0 + exp2(x * (-LOG2_E), FAST), FAST)


@triton.jit
def operand(x, dtype: tl.constexpr, FAST: tl.constexpr):
    """Convert float32 to an operand; float32 operands are rounded to tf32.

    Left to the product they would be cut off: twice the error, and all of one sign.
    """
    if FAST and dtype == tl.float32:
        return tl.inline_asm_elementwise(
            "cvt.rna.tf32.f32 $0, $1;",
            "=r,f",
            [x.to(tl.float32)],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        return x.to(dtype)


@triton.jit
def pack(x, dtype: tl.constexpr, FAST: tl.constexpr):
    """Convert float32 to an operand as ``operand`` does, two values of 16 bits at a time.

    As an instruction that LLVM cannot look into: it would move the mask before it behind the
    conversion, and selects of 16 bits cost twice.
    """
    if FAST and dtype == tl.bfloat16:
        return tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [x], dtype=tl.bfloat16, is_pure=True, pack=2
        )
    elif FAST and dtype == tl.float16:
        return tl.inline_asm_elementwise(
            "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f", [x], dtype=tl.float16, is_pure=True, pack=2
        )
    else:
        return operand(x, dtype, FAST)


@triton.jit
def power_of_two(x):
    """Return the power of two below the largest |entry| of a tile, within [2^-100, 2^100].

    What is divided by it fits 16-bit operands whatever its scale (gradients of a mean loss are
    near 1e-7, below what fp16 holds), and is multiplied back without rounding.
    """
    largest = tl.max(tl.max(tl.abs(x), 1), 0)
    exponent = tl.cast(largest, tl.int32, bitcast=True) & 0x7F800000
    # 27 and 227 are the biased exponents of 2^-100 and 2^100
    return tl.minimum(tl.maximum(exponent, 27 << 23), 227 << 23).to(tl.float32, bitcast=True)


@triton.jit
def inverse_product(X, y, INVERSE: tl.constexpr, PRODUCTS: tl.constexpr, FAST: tl.constexpr):
    """X y for a y of any scale; float32."""
    if tl.float16 == INVERSE:
        scale = power_of_two(y)
        return product(X, operand(y * (1.0 / scale), INVERSE, FAST), PRODUCTS) * scale
    else:
        return product(X, operand(y, INVERSE, FAST), PRODUCTS)


@triton.jit
def product(x, y, PRODUCTS: tl.constexpr, added=None):
    """x y, or added + x y; float32."""
    return tl.dot(x, y, added, input_precision=PRODUCTS)


@triton.jit
def load_rows(pointers, is_token, MASKED: tl.constexpr):
    """Load a tile of token rows; pads are zeros and are not read."""
    if MASKED:
        return tl.load(pointers, mask=is_token, other=0.0)
    else:
        return tl.load(pointers)


@triton.jit
def store_rows(pointers, values, in_tensor, MASKED: tl.constexpr):
    """Store a tile of token rows, those of the tensor only."""
    if MASKED:
        tl.store(pointers, values.to(pointers.dtype.element_ty), mask=in_tensor)
    else:
        tl.store(pointers, values.to(pointers.dtype.element_ty))


@triton.jit
def row_length(lengths_ptr, row, num_tokens):
    """True tokens of a row of the batch."""
    if lengths_ptr is None:
        return num_tokens
    else:
        return tl.maximum(tl.minimum(tl.load(lengths_ptr + row), num_tokens), 0)


@triton.jit
def log2_decays(decay_logit, is_token, MASKED: tl.constexpr, FAST: tl.constexpr):
    """log2(decay) = -exp(-0.5) / ln 2 * sigmoid(decay_logit); 0 on pads."""
    log2_decay = sigmoid(decay_logit.to(tl.float32), FAST) * LOG2_DECAY_SCALE
    if MASKED:
        log2_decay = tl.where(is_token, log2_decay, 0.0)
    return log2_decay


@triton.jit
def unit_lower_inverse(
    lower, i, j, C: tl.constexpr, INVERSE: tl.constexpr, PRODUCTS: tl.constexpr, FAST: tl.constexpr
):
    """(I - lower)^-1 of a strictly lower [C, C] by block doubling; i, j its row and column.

    X of blocks of 2^n joins into blocks of 2^(n+1): X += X lower_between X. As exact as
    substitution, where a power series of ``lower`` loses every digit on runs of equal keys.
    """
    block = i ^ j  # the highest bit tells the size of the block that first joins i and j
    inverse = tl.where(i == j, 1.0, 0.0) + tl.where((block == 1) & (i > j), lower, 0.0)
    lower = pack(lower, INVERSE, FAST)
    for n in tl.static_range(1, 7):
        if (1 << n) < C:
            x = pack(inverse, INVERSE, FAST)
            # lower triangular by itself: only the mask of the blocks is left
            joined = product(operand(product(x, lower, PRODUCTS), INVERSE, FAST), x, PRODUCTS)
            inverse += tl.where((block >> n) == 1, joined, 0.0)
    return inverse
