"""FLOPs and bytes of a training step by part, and what share of a device's peak they are.

Model FLOPs: two for each multiply and add of a forward pass, times three for forward and backward.
C width, F channels of the channel mix, H heads of size N = C / H, V vocabulary, ranks D (decay),
A (in-context rate), M (value residual, not in layer 0), G (gate). Per token and layer, forward:

    projections   4 C^2 products (r, k, v, output)                            -> 8 C^2
    low rank      2 C (D + A + G), and 2 C M behind layer 0                   -> 4 C (D + A + G + M)
    wkv7          per head: S alpha, the products with beta and v, S r: 4 N^2, decay: N^2 / 2
                                                                              -> 9 C N
    channel mix   2 C F products                                              -> 4 C F
    loss          C V products, per answer token, once                        -> 2 C V

MFU = tokens/s * FLOPs per true token / peak. Pads, recomputed layers and the matrix products of the
chunked form beyond the recurrence do not count as work.
"""

from dataclasses import dataclass

from fseed.models.shape import RWKV7Shape

# dense bf16 FLOP/s and bytes/s of the data sheets (H100 SXM5 80 GB HBM3, H200 SXM5 141 GB HBM3e)
H100_DENSE_BF16 = 989.4e12
H100_BANDWIDTH = 3.35e12
H200_BANDWIDTH = 4.8e12
BF16, FLOAT32 = 2, 4


@dataclass(frozen=True)
class Peak:
    """Limits of a device."""

    flops: float  # per second, dense bf16
    bandwidth: float  # bytes per second


PEAKS = {
    "H100": Peak(H100_DENSE_BF16, H100_BANDWIDTH),
    "H200": Peak(H100_DENSE_BF16, H200_BANDWIDTH),
}


def peak_of(device: str) -> Peak | None:
    """Return the limits of a device by its name; None where they are not known."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


@dataclass(frozen=True)
class Load:
    """What one training step asks of a device; ``answers`` of the ``tokens`` predict."""

    tokens: int
    answers: int
    batch: int = 1


def flops_by_part(shape: RWKV7Shape, load: Load) -> dict[str, float]:
    """Return the model FLOPs of forward and backward of one step."""
    c, n, layers = shape.width, shape.head_size, shape.num_layers
    ranks = layers * (shape.decay_rank + shape.in_context_rank + shape.gate_rank)
    ranks += (layers - 1) * shape.value_rank
    per_token = {
        "projections": layers * 8 * c**2,
        "low rank": 4 * c * ranks,
        "wkv7": layers * 9 * c * n,
        "channel mix": layers * 4 * c * shape.ffn_width,
    }
    parts = {name: 3.0 * value * load.tokens for name, value in per_token.items()}
    return parts | {"loss": 3.0 * 2 * c * shape.vocab_size * load.answers}


def mfu(shape: RWKV7Shape, load: Load, *, seconds: float, peak: Peak) -> float:
    """Return the share of the dense peak that the model FLOPs of a step are."""
    return sum(flops_by_part(shape, load).values()) / seconds / peak.flops


def parameters_by_part(shape: RWKV7Shape) -> dict[str, int]:
    """Return the matrix parameters of the parts; vectors are below a thousandth of them."""
    c, layers = shape.width, shape.num_layers
    ranks = layers * (shape.decay_rank + shape.in_context_rank + shape.gate_rank)
    ranks += (layers - 1) * shape.value_rank
    return {
        "projections": layers * 4 * c**2,
        "low rank": 2 * c * ranks,
        "channel mix": layers * 2 * c * shape.ffn_width,
        "loss": c * shape.vocab_size,
        "embedding": c * shape.vocab_size,
    }


# [B, T, C] tensors in bf16 that a fused form reads and writes per layer, forward + backward
NORM_SHIFT_MIX = (1 + 6) + (6 + 1 + 1) + (1 + 1) + (1 + 1 + 1)  # time mix, then channel mix
WKV7_FORWARD, WKV7_BACKWARD = 7, 13  # as in bench.shapes
WKV7_INPUTS = (6 + 5) + (6 + 5 + 6)
MIX_OUTPUT = (5 + 1) + (6 + 5)
RELU_SQUARED = (1 + 1) + (2 + 1)  # of F channels


def bytes_by_part(shape: RWKV7Shape, load: Load) -> dict[str, float]:
    """Return the bytes that forward, backward and update of one step have to move.

    A product reads two matrices and writes one, three times (forward and both gradients); weights
    are read in bf16 and their gradients written in float32. The loss holds no logits: it reads the
    answer rows and twice the matrix. AdamW reads weight, gradient and both moments and writes
    three of them; clipping reads every gradient for the norm, then reads and writes it.
    """
    c, f, layers = shape.width, shape.ffn_width, shape.num_layers
    row = load.tokens * BF16
    weights = parameters_by_part(shape)
    per_weight = 2 * BF16 + FLOAT32
    ranks = weights["low rank"] / (2 * c)  # summed over the layers
    total = sum(weights.values())
    return {
        "embedding": 2 * load.tokens * c * FLOAT32 * 2 + weights["embedding"] * FLOAT32,
        "norm, shift, mix": NORM_SHIFT_MIX * layers * c * row,
        "projections": 6 * layers * 4 * c * row + weights["projections"] * per_weight,
        "low rank": 6 * (layers * 4 * c + ranks) * row + weights["low rank"] * per_weight,
        "wkv7 inputs": WKV7_INPUTS * layers * c * row,
        "wkv7 forward": WKV7_FORWARD * layers * c * row,
        "wkv7 backward": WKV7_BACKWARD * layers * c * row,
        "mix output": MIX_OUTPUT * layers * c * row,
        "channel mix": (6 * (c + f) + RELU_SQUARED * f) * layers * row
        + weights["channel mix"] * per_weight,
        "loss": load.answers * c * 3 * BF16 + weights["loss"] * per_weight,
        "clip": total * 3 * FLOAT32,
        "optimiser": total * 7 * FLOAT32,
    }


def roofline_seconds(shape: RWKV7Shape, load: Load, peak: Peak) -> dict[str, float]:
    """Return the least seconds of every part: its bytes or its FLOPs, whichever takes longer."""
    flops = flops_by_part(shape, load)
    wkv7 = flops.pop("wkv7")
    flops |= {"wkv7 forward": wkv7 / 3, "wkv7 backward": 2 * wkv7 / 3}
    moved = bytes_by_part(shape, load)
    return {
        part: max(moved[part] / peak.bandwidth, flops.get(part, 0.0) / peak.flops) for part in moved
    }
