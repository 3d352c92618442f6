"""The sizes of an RWKV-7 model read off its tensors, and everything that does not fit. No torch.

Each size is a vote: every tensor proposes the sizes that its own shape shows, and the majority
wins. So one damaged tensor is reported as misshapen and does not turn all others into errors.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fseed.errors import UserError
from fseed.models.checkpoint_names import (
    BLOCK_NAME,
    UNUSED_NAMES,
    Symbols,
    expected_shapes,
)
from fseed.models.shape import HEAD_SIZES

MAX_LAYERS = 10_000
FLOAT_TYPES = ("float32", "bfloat16", "float16", "float64")

_SIGNATURE = re.compile(r"blocks\.\d+\.att\.(r_k|k_k|k_a|x_[rwkvag]|[wag][012])")
_OTHER_ARCHITECTURES = (
    (r".+\.blocks\.\d+\.att\.r_k$", "RWKV-7 with a prefix on every name"),
    (r"blocks\.\d+\.att\.time_maa_", "RWKV-6"),
    (r"blocks\.\d+\.att\.(ln_x|gate)\.", "RWKV-5"),
    (r"blocks\.\d+\.att\.time_", "RWKV-4"),
    (r"rwkv\.blocks\.", "RWKV-4 in Hugging Face names"),
    (r"(^|\.)(A_log|mixer|ssm)(\.|$)", "a state-space model (Mamba)"),
    (r"(^|\.)(q_proj|c_attn|query_key_value|in_proj_weight|qkv_proj|query|Wqkv)(\.|$)",
     "a transformer"),
)  # fmt: skip


class TensorInfo(NamedTuple):
    """Shape and type of one tensor."""

    shape: tuple[int, ...]
    dtype: str


Header = dict[str, TensorInfo]


def shape_from_header(
    header: Mapping[str, tuple[tuple[int, ...], str]], *, source: str = "the checkpoint"
) -> dict[str, int]:
    """Return the sizes of the model, the fields of ``RWKV7Shape``.

    ``header`` has official names; ``source`` names the checkpoint in messages. The value residual
    of layer 0 (``att.v0`` to ``att.v2``), which nothing reads, is allowed and ignored.

    Raises:
        UserError: if it is of another architecture, or one message that lists every missing,
            unexpected and misshapen tensor.
    """
    shapes = {name: tuple(shape) for name, (shape, _) in header.items()}
    _check_architecture(shapes, source=source)
    num_layers = _num_layers(shapes, source=source)
    expected = expected_shapes(num_layers)
    sizes = _vote(shapes, expected)
    problems = _list_problems(header, expected, sizes)
    if problems:
        read_as = f"{num_layers} layers, width {sizes.get('C', '?')}"
        title = f"{source} is not a complete RWKV-7 checkpoint (read as {read_as})"
        raise UserError("\n  ".join([title, *problems]))
    _check_heads(sizes, source=source)
    return {
        "num_layers": num_layers,
        "width": sizes["C"],
        "head_size": sizes["N"],
        "ffn_width": sizes["F"],
        "decay_rank": sizes["D"],
        "in_context_rank": sizes["A"],
        # a model of one layer has no value residual; every rank then means the same model
        "value_rank": sizes.get("M", 1),
        "gate_rank": sizes["G"],
        "vocab_size": sizes["V"],
    }


def compress_names(names: Iterable[str]) -> list[str]:
    """Write equal names of several layers as one: ``blocks.{0..3,5}.att.w1``.

    >>> compress_names(["blocks.0.ln1.bias", "blocks.1.ln1.bias", "head.weight"])
    ['blocks.{0..1}.ln1.bias', 'head.weight']
    """
    layers: dict[str, list[int]] = defaultdict(list)
    plain: list[str] = []
    for name in names:
        match = BLOCK_NAME.fullmatch(name)
        if match is None:
            plain.append(name)
        else:
            layers[match[2]].append(int(match[1]))
    blocks = [f"blocks.{_compress_numbers(found)}.{rest}" for rest, found in layers.items()]
    return blocks + plain


def _compress_numbers(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)
    return text if len(numbers) == 1 else f"{{{text}}}"


def _check_architecture(names: Iterable[str], *, source: str) -> None:
    names = list(names)
    if any(_SIGNATURE.fullmatch(name) for name in names):
        return
    for pattern, architecture in _OTHER_ARCHITECTURES:
        witness = next((name for name in names if re.search(pattern, name)), None)
        if witness is not None:
            raise UserError(
                f"{source} is not an RWKV-7 checkpoint: it looks like {architecture}"
                f" (it contains {witness})"
            )
    first = ", ".join(sorted(names)[:5]) or "no tensors at all"
    raise UserError(f"{source} is not an RWKV-7 checkpoint: it contains {first}")


def _num_layers(names: Iterable[str], *, source: str) -> int:
    matches = (BLOCK_NAME.fullmatch(name) for name in names)
    num_layers = 1 + max(int(match[1]) for match in matches if match is not None)
    if num_layers > MAX_LAYERS:
        raise UserError(f"{source} is not an RWKV-7 checkpoint: it has a layer {num_layers - 1}")
    return num_layers


def _vote(shapes: dict[str, tuple[int, ...]], expected: dict[str, Symbols]) -> dict[str, int]:
    """Return the majority value of every symbol; symbols without any vote are absent."""
    known = {name: symbols for name, symbols in expected.items() if name in shapes}
    widths = Counter(
        shape[symbols.index("C")]
        for name, symbols in known.items()
        if "C" in symbols and len(shape := shapes[name]) == len(symbols)
    )
    if not widths:
        return {}
    sizes = {"C": widths.most_common(1)[0][0]}
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for name, symbols in known.items():
        for symbol, size in _proposals(shapes[name], symbols, width=sizes["C"]):
            votes[symbol][size] += 1
    return sizes | {symbol: counter.most_common(1)[0][0] for symbol, counter in votes.items()}


def _proposals(shape: tuple[int, ...], symbols: Symbols, *, width: int) -> list[tuple[str, int]]:
    """Return the sizes one matrix proposes; a transposed pair proposes the right rank too."""
    if len(shape) != 2 or len(symbols) != 2 or symbols == ("C", "C"):
        return []
    if symbols == ("H", "N"):
        return [("H", shape[0]), ("N", shape[1])]
    if width not in shape:
        return []
    symbol = symbols[0] if symbols[1] == "C" else symbols[1]
    return [(symbol, shape[0] if shape[1] == width else shape[1])]


def _list_problems(
    header: Mapping[str, tuple[tuple[int, ...], str]],
    expected: dict[str, Symbols],
    sizes: dict[str, int],
) -> list[str]:
    missing = [name for name in expected if name not in header]
    unexpected = [name for name in header if name not in expected and name not in UNUSED_NAMES]
    misshapen: dict[str, list[str]] = defaultdict(list)
    wrong_type: dict[str, list[str]] = defaultdict(list)
    for name, (shape, dtype) in header.items():
        if name in unexpected or name in UNUSED_NAMES:
            continue
        wanted = tuple(_size(symbol, sizes) for symbol in expected[name])
        if tuple(shape) != wanted:
            misshapen[_describe_misfit(tuple(shape), wanted)].append(name)
        if dtype not in FLOAT_TYPES:
            wrong_type[f"is {dtype}, not one of {', '.join(FLOAT_TYPES)}"].append(name)
    groups = [
        ("missing", compress_names(missing)),
        ("unexpected", compress_names(unexpected)),
        ("misshapen", _with_reason(misshapen)),
        ("wrong type", _with_reason(wrong_type)),
    ]
    return [f"{title}: {', '.join(names)}" for title, names in groups if names]


def _with_reason(names_by_reason: Mapping[str, list[str]]) -> list[str]:
    return [
        f"{name} {reason}"
        for reason, names in names_by_reason.items()
        for name in compress_names(names)
    ]


def _size(symbol: str, sizes: dict[str, int]) -> int | str:
    return 1 if symbol == "1" else sizes.get(symbol, symbol)


def _describe_misfit(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> str:
    shown = "[" + ", ".join(str(size) for size in wanted) + "]"
    swapped = len(shape) == 2 and shape[::-1] == wanted
    return f"is {list(shape)}, not {shown}{' (transposed)' if swapped else ''}"


def _check_heads(sizes: dict[str, int], *, source: str) -> None:
    heads, size = sizes["H"], sizes["N"]
    if size in HEAD_SIZES and heads * size == sizes["C"]:
        return
    allowed = ", ".join(str(allowed) for allowed in HEAD_SIZES)
    raise UserError(
        f"{source} is not a usable RWKV-7 checkpoint: att.r_k is [{heads}, {size}], that is"
        f" {heads} heads of size {size} for a width of {sizes['C']}; head sizes: {allowed}"
    )
