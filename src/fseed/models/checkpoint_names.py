"""The tensors of an RWKV-7 checkpoint: official names and shapes, and the Hugging Face names.

Torch-free. Symbols of the shapes: V vocabulary, C width, H heads, N head size, F FFN width, and
the low-rank sizes D decay, A in-context learning rate, M value residual, G gate.

Sources: names and shapes as read by ``rwkv/model.py`` of the PyPI package rwkv 0.8.32; Hugging Face
names as in ``fla/models/rwkv7`` and ``fla/layers/rwkv7.py`` of flash-linear-attention 0.6.0.
"""

import re
from dataclasses import dataclass
from enum import Enum

Symbols = tuple[str, ...]

VECTOR: Symbols = ("1", "1", "C")

GLOBAL_SHAPES: dict[str, Symbols] = {
    "emb.weight": ("V", "C"),
    "ln_out.weight": ("C",),
    "ln_out.bias": ("C",),
    "head.weight": ("V", "C"),
}

BLOCK_SHAPES: dict[str, Symbols] = {
    "ln1.weight": ("C",),
    "ln1.bias": ("C",),
    "ln2.weight": ("C",),
    "ln2.bias": ("C",),
    **{f"att.{name}": VECTOR for name in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g")},
    **{f"att.{name}": VECTOR for name in ("w0", "a0", "k_k", "k_a")},
    "att.w1": ("C", "D"),
    "att.w2": ("D", "C"),
    "att.a1": ("C", "A"),
    "att.a2": ("A", "C"),
    "att.g1": ("C", "G"),
    "att.g2": ("G", "C"),
    "att.r_k": ("H", "N"),
    **{f"att.{name}.weight": ("C", "C") for name in ("receptance", "key", "value", "output")},
    "att.ln_x.weight": ("C",),
    "att.ln_x.bias": ("C",),
    "ffn.x_k": VECTOR,
    "ffn.key.weight": ("F", "C"),
    "ffn.value.weight": ("C", "F"),
}

FIRST_BLOCK_SHAPES: dict[str, Symbols] = {"ln0.weight": ("C",), "ln0.bias": ("C",)}

# the value residual: layer 0 defines v_first, so it needs none of these; official files may carry
# them for layer 0 all the same, where no implementation reads them
LATER_BLOCK_SHAPES: dict[str, Symbols] = {
    "att.v0": VECTOR,
    "att.v1": ("C", "M"),
    "att.v2": ("M", "C"),
}

UNUSED_NAMES = frozenset(f"blocks.0.{rest}" for rest in LATER_BLOCK_SHAPES)

BLOCK_NAME = re.compile(r"blocks\.(\d+)\.(.+)")


def expected_shapes(num_layers: int) -> dict[str, Symbols]:
    """Return every tensor name of a model with ``num_layers`` layers and its symbolic shape."""
    shapes = dict(GLOBAL_SHAPES)
    for layer in range(num_layers):
        rest = BLOCK_SHAPES | (FIRST_BLOCK_SHAPES if layer == 0 else LATER_BLOCK_SHAPES)
        shapes |= {f"blocks.{layer}.{name}": symbols for name, symbols in rest.items()}
    return shapes


class Layout(Enum):
    """How the numbers of a Hugging Face tensor stand in the official one."""

    same = "same"
    transposed = "transposed"
    vector = "vector"  # [C] -> [1, 1, C]
    packed_row = "packed_row"  # one row of [6, C] or [6, 1, 1, C] -> [1, 1, C]


@dataclass(frozen=True)
class Translation:
    """One official tensor that is made from a Hugging Face tensor."""

    name: str
    layout: Layout
    row: int = 0  # of a packed tensor

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the official shape of a tensor whose Hugging Face shape is ``shape``.

        A shape that does not fit the layout is returned as it is, so that the comparison with
        the expected shapes reports it.
        """
        if self.layout is Layout.transposed and len(shape) == 2:
            return shape[::-1]
        squeezed = tuple(size for size in shape if size != 1)
        if self.layout is Layout.vector and len(squeezed) == 1:
            return (1, 1, *squeezed)
        if self.layout is Layout.packed_row and len(squeezed) == 2 and squeezed[0] == 6:
            return (1, 1, squeezed[1])
        return shape


_GLOBAL_TRANSLATIONS = {
    "model.embeddings.weight": "emb.weight",
    "model.norm.weight": "ln_out.weight",
    "model.norm.bias": "ln_out.bias",
    "lm_head.weight": "head.weight",
}

_MODULE_TRANSLATIONS = {
    "pre_norm": "ln0",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "attn.g_norm": "att.ln_x",
    "attn.r_proj": "att.receptance",
    "attn.k_proj": "att.key",
    "attn.v_proj": "att.value",
    "attn.o_proj": "att.output",
    "ffn.key": "ffn.key",
    "ffn.value": "ffn.value",
}

# a low-rank pair is two nn.Linear there (weight [out, in]), two plain matrices [in, out] here
_LOW_RANK_TRANSLATIONS = {
    "0.weight": ("1", Layout.transposed),
    "2.weight": ("2", Layout.transposed),
    "2.bias": ("0", Layout.vector),
}

_HF_BLOCK_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")
_HF_MODULE = re.compile(r"(.+)\.(weight|bias)")
_HF_LOW_RANK = re.compile(r"attn\.([wavg])_lora\.lora\.(0\.weight|2\.weight|2\.bias)")
_HF_PARAMETER = re.compile(r"attn\.(x_[rwkvag]|k_k|k_a)|ffn\.(x_k)")


def translate_name(name: str) -> list[Translation]:
    """Return the official tensors made from the Hugging Face tensor ``name``; none if unknown.

    ``attn.x_x`` is the packed form of the six token-shift vectors in older published files, rows
    in the order r, w, k, v, a, g.
    """
    if name in _GLOBAL_TRANSLATIONS:
        return [Translation(_GLOBAL_TRANSLATIONS[name], Layout.same)]
    match = _HF_BLOCK_NAME.fullmatch(name)
    if match is None:
        return []
    prefix = f"blocks.{match[1]}."
    if match[2] == "attn.x_x":
        rows = enumerate("rwkvag")
        return [Translation(f"{prefix}att.x_{x}", Layout.packed_row, row) for row, x in rows]
    found = _translate_block_name(match[2])
    return [] if found is None else [Translation(prefix + found[0], found[1])]


def _translate_block_name(rest: str) -> tuple[str, Layout] | None:
    if rest == "attn.r_k":
        return "att.r_k", Layout.same
    if (match := _HF_LOW_RANK.fullmatch(rest)) is not None:
        number, layout = _LOW_RANK_TRANSLATIONS[match[2]]
        return f"att.{match[1]}{number}", layout
    if (match := _HF_PARAMETER.fullmatch(rest)) is not None:
        return (f"att.{match[1]}" if match[1] else f"ffn.{match[2]}"), Layout.vector
    match = _HF_MODULE.fullmatch(rest)
    if match is None or match[1] not in _MODULE_TRANSLATIONS:
        return None
    return f"{_MODULE_TRANSLATIONS[match[1]]}.{match[2]}", Layout.same
