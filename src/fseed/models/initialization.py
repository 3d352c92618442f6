"""The official starting point of RWKV-7: every parameter has its own rule.

Formulas: BlinkDL/RWKV-LM, RWKV-v7/train_temp/src/model.py at commit 118e451. C width, L layers.
"""

import math

import torch
from torch import Generator, Tensor, nn

from fseed.models.layers import Block
from fseed.models.rwkv7 import RWKV7


@torch.no_grad()
def initialize(model: RWKV7, *, generator: Generator) -> RWKV7:
    """Fill every parameter in place from ``generator`` (on the CPU) and return the model."""
    shape = model.shape
    model.emb.weight.uniform_(-1e-4, 1e-4, generator=generator)
    head_gain = 0.5 * math.sqrt(max(1.0, shape.vocab_size / shape.width))
    nn.init.orthogonal_(model.head.weight, gain=head_gain, generator=generator)
    for layer, block in enumerate(model.layers):
        _initialize_time_mix(block, layer, shape.num_layers, generator)
        _initialize_channel_mix(block, layer, shape.num_layers, generator)
    return model


def _initialize_time_mix(block: Block, layer: int, num_layers: int, generator: Generator) -> None:
    att = block.att
    width, size = att.x_r.shape[-1], att.head_size
    depth = layer / max(num_layers - 1, 1)  # 0 at the first layer, 1 at the last
    remaining = 1.0 - layer / num_layers  # 1 at the first layer, nearly 0 at the last
    channel = torch.arange(width) / width
    powers = {att.x_r: 0.2, att.x_w: 0.9, att.x_k: 0.7, att.x_v: 0.7, att.x_a: 0.9, att.x_g: 0.2}
    for mix, power in powers.items():
        mix[0, 0] = 1.0 - channel ** (power * remaining)
    ramp = torch.arange(width) / (width - 1)
    linear = ramp - 0.5
    zigzag = (torch.arange(width) % size - (size - 1) / 2) / ((size - 1) / 2)
    zigzag = zigzag * zigzag.abs()
    # the 0.5 stands for the official soft clamp of the decay
    att.w0[0, 0] = -6 + 6 * ramp ** (1 + depth**0.3) + 0.5 + 2.5 * zigzag
    att.a0[0, 0] = -0.19 + 0.3 * zigzag + 0.4 * linear
    att.k_k[0, 0] = 0.71 - 0.1 * linear
    att.k_a.fill_(1.02)
    att.r_k.fill_(-0.04)
    pairs = [(att.w1, att.w2), (att.a1, att.a2), (att.g1, att.g2)]
    if layer > 0:
        att.v0[0, 0] = 0.73 - 0.4 * linear
        pairs.append((att.v1, att.v2))
    for down, up in pairs:
        down.zero_()
        _orthogonal(up, 0.1, generator)
    bound = 0.5 / math.sqrt(width)
    att.receptance.weight.uniform_(-bound, bound, generator=generator)
    att.key.weight.uniform_(-bound / 10, bound / 10, generator=generator)
    att.value.weight.uniform_(-bound, bound, generator=generator)
    att.output.weight.zero_()
    att.ln_x.weight.fill_(((1 + layer) / num_layers) ** 0.7)


def _initialize_channel_mix(
    block: Block, layer: int, num_layers: int, generator: Generator
) -> None:
    ffn = block.ffn
    width = ffn.x_k.shape[-1]
    remaining = 1.0 - layer / num_layers
    ffn.x_k[0, 0] = 1.0 - (torch.arange(width) / width) ** (remaining**4)
    bound = 0.5 / math.sqrt(width)
    ffn.key.weight.uniform_(-bound, bound, generator=generator)
    ffn.value.weight.zero_()


def _orthogonal(matrix: Tensor, scale: float, generator: Generator) -> None:
    """Fill ``matrix`` with scaled orthogonal rows or columns."""
    rows, columns = matrix.shape
    gain = math.sqrt(rows / columns) if rows > columns else 1.0
    nn.init.orthogonal_(matrix, gain=gain * scale, generator=generator)
