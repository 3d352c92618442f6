import pytest

from fseed.errors import UserError
from fseed.models.checkpoint_names import expected_shapes
from fseed.models.checkpoint_shape import (
    Header,
    TensorInfo,
    compress_names,
    shape_from_header,
)
from tests.models.checkpoint_samples import SHAPE

SIZES = {"1": 1, "C": 48, "H": 3, "N": 16, "F": 80, "D": 5, "A": 6, "M": 7, "G": 9, "V": 23}


def sample_header(num_layers: int = 3, **sizes: int) -> Header:
    merged = SIZES | sizes
    return {
        name: TensorInfo(tuple(merged[symbol] for symbol in symbols), "float32")
        for name, symbols in expected_shapes(num_layers).items()
    }


def error_of(header: Header) -> str:
    with pytest.raises(UserError) as error:
        shape_from_header(header, source="w.pth")
    return str(error.value)


def test_sizes_are_read_off_the_tensors() -> None:
    assert shape_from_header(sample_header()) == vars(SHAPE)
    wide = shape_from_header(sample_header(12, C=256, N=64, H=4, F=600, V=65_536))
    assert (wide["num_layers"], wide["width"], wide["head_size"]) == (12, 256, 64)
    assert (wide["ffn_width"], wide["vocab_size"]) == (600, 65_536)


@pytest.mark.parametrize("head_size", [16, 32, 64])
def test_head_sizes(head_size: int) -> None:
    header = sample_header(C=192, N=head_size, H=192 // head_size)
    assert shape_from_header(header)["head_size"] == head_size


def test_one_layer_has_no_value_residual() -> None:
    sizes = shape_from_header(sample_header(1))
    assert sizes["num_layers"] == 1
    assert sizes["value_rank"] >= 1


def test_unused_value_residual_of_layer_0_is_accepted() -> None:
    header = sample_header()
    header |= {f"blocks.0.att.{name}": TensorInfo((1,), "float32") for name in ("v0", "v1", "v2")}
    assert shape_from_header(header) == vars(SHAPE)


def test_one_message_lists_everything() -> None:
    header = sample_header(4)
    for layer in (0, 1, 3):
        del header[f"blocks.{layer}.att.w1"]
    del header["head.weight"]
    header["blocks.2.ffn.s_emb.weight"] = TensorInfo((23, 32), "float32")
    header["extra"] = TensorInfo((), "float32")
    header["ln_out.bias"] = TensorInfo((47,), "float32")
    for layer in range(4):
        header[f"blocks.{layer}.ln1.bias"] = TensorInfo((1, 48), "float32")
    header["blocks.1.att.key.weight"] = TensorInfo((48, 48), "int8")
    assert error_of(header).split("\n") == [
        "w.pth is not a complete RWKV-7 checkpoint (read as 4 layers, width 48)",
        "  missing: blocks.{0..1,3}.att.w1, head.weight",
        "  unexpected: blocks.2.ffn.s_emb.weight, extra",
        "  misshapen: ln_out.bias is [47], not [48], blocks.{0..3}.ln1.bias is [1, 48], not [48]",
        "  wrong type: blocks.1.att.key.weight is int8, not one of float32, bfloat16, float16,"
        " float64",
    ]


def test_a_whole_missing_layer_is_listed() -> None:
    header = {
        name: info for name, info in sample_header(4).items() if not name.startswith("blocks.2.")
    }
    message = error_of(header)
    assert "read as 4 layers" in message
    assert message.count("blocks.2.") == 33
    assert "unexpected" not in message


@pytest.mark.parametrize("letter", list("wavg"))
def test_swapped_low_rank_pair_is_found_in_all_layers(letter: str) -> None:
    header = sample_header()
    for layer in range(1 if letter == "v" else 0, 3):
        first, second = (f"blocks.{layer}.att.{letter}{number}" for number in (1, 2))
        header[first], header[second] = header[second], header[first]
    message = error_of(header)
    rank = {"w": 5, "a": 6, "v": 7, "g": 9}[letter]
    layers = "{1..2}" if letter == "v" else "{0..2}"
    wanted = f"blocks.{layers}.att.{letter}1 is [{rank}, 48], not [48, {rank}] (transposed)"
    assert wanted in message
    assert f"att.{letter}2 is [48, {rank}], not [{rank}, 48] (transposed)" in message


def test_one_damaged_tensor_does_not_condemn_the_others() -> None:
    header = sample_header()
    header["emb.weight"] = TensorInfo((23, 12), "float32")
    message = error_of(header)
    assert "misshapen: emb.weight is [23, 12], not [23, 48]" in message
    assert message.count(" is [") == 1


def test_heads_that_cannot_be() -> None:
    assert "3 heads of size 12" in error_of(sample_header(C=36, N=12))
    assert "head sizes: 16, 32, 64" in error_of(sample_header(H=16, N=3))
    assert "2 heads of size 16 for a width of 48" in error_of(sample_header(H=2))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("blocks.0.att.time_maa_x", "RWKV-6"),
        ("blocks.0.att.gate.weight", "RWKV-5"),
        ("blocks.0.att.time_decay", "RWKV-4"),
        ("model.blocks.0.att.r_k", "prefix"),
        ("model.layers.0.self_attn.q_proj.weight", "a transformer"),
        ("transformer.h.0.attn.c_attn.weight", "a transformer"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", "a transformer"),
        ("backbone.layers.0.mixer.A_log", "Mamba"),
    ],
)
def test_other_architectures_are_named(name: str, found: str) -> None:
    message = error_of({"a.weight": TensorInfo((2,), "float32"), name: TensorInfo((2,), "float32")})
    assert "w.pth is not an RWKV-7 checkpoint" in message
    assert found in message
    assert name in message


def test_unknown_tensors_are_shown() -> None:
    message = error_of({"conv1.weight": TensorInfo((3, 3), "float32")})
    assert "not an RWKV-7 checkpoint: it contains conv1.weight" in message
    assert "no tensors at all" in error_of({})


def test_absurd_layer_number_is_refused() -> None:
    header = {"blocks.999999999.att.r_k": TensorInfo((1, 64), "float32")}
    assert "layer 999999999" in error_of(header)


def test_compress_names() -> None:
    names = [f"blocks.{i}.a" for i in (4, 0, 1, 2, 7)] + ["blocks.5.b", "c"]
    assert compress_names(names) == ["blocks.{0..2,4,7}.a", "blocks.5.b", "c"]
