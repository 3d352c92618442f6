import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fseed.errors import UserError
from fseed.models.checkpoint_header import (
    TensorInfo,
    read_header,
    read_shape,
    weights_fingerprint,
)
from tests.models.checkpoint_samples import (
    SHAPE,
    hugging_face_weights,
    sample_weights,
    write_folder,
)


def test_all_forms_have_the_same_header_and_shape(tmp_path: Path) -> None:
    weights = sample_weights()
    torch.save(weights, tmp_path / "w.pth")
    save_file(weights, tmp_path / "w.safetensors")
    hugging_face = hugging_face_weights(weights)
    folder = write_folder(tmp_path / "one", hugging_face)
    paths = [
        tmp_path / "w.pth",
        tmp_path / "w.safetensors",
        folder,
        write_folder(tmp_path / "three", hugging_face, shards=3),
        folder / "model.safetensors",
    ]
    expected = {name: TensorInfo(tuple(t.shape), "float32") for name, t in weights.items()}
    for path in paths:
        assert read_header(path) == expected, path
        assert read_shape(path) == vars(SHAPE), path


def test_form_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    torch.save(sample_weights(), tmp_path / "w.safetensors")
    save_file(sample_weights(), tmp_path / "w.pth")
    assert read_shape(tmp_path / "w.safetensors") == read_shape(tmp_path / "w.pth") == vars(SHAPE)


def test_types_are_named_alike_in_every_form(tmp_path: Path) -> None:
    weights = {name: tensor.bfloat16() for name, tensor in sample_weights().items()}
    torch.save(weights, tmp_path / "w.pth")
    save_file(weights, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        header = read_header(tmp_path / name)
        assert {info.dtype for info in header.values()} == {"bfloat16"}
        assert read_shape(tmp_path / name) == vars(SHAPE)


def test_packed_token_shift_of_older_published_files(tmp_path: Path) -> None:
    packed = hugging_face_weights(sample_weights())
    for layer in range(SHAPE.num_layers):
        rows = [packed.pop(f"model.layers.{layer}.attn.x_{x}") for x in "rwkvag"]
        packed[f"model.layers.{layer}.attn.x_x"] = torch.stack(rows)  # [6, 1, 1, C]
    assert read_shape(write_folder(tmp_path / "packed", packed)) == vars(SHAPE)


def test_tied_embedding_stands_for_the_head(tmp_path: Path) -> None:
    tensors = hugging_face_weights(sample_weights())
    del tensors["lm_head.weight"]
    tied = write_folder(tmp_path / "tied", tensors, config={"tie_word_embeddings": True})
    assert read_header(tied)["head.weight"] == read_header(tied)["emb.weight"]
    untied = write_folder(tmp_path / "untied", tensors)
    with pytest.raises(UserError, match=r"missing: head\.weight"):
        read_shape(untied)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello world\nthis is text", "text file that starts with 'hello world'"),
        (b"<!DOCTYPE html><html>", "text file that starts with '<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (bytes.fromhex("80028a0a6cfc9c46f920"), "old format of torch.save"),
        (bytes(range(255, 0, -1)) * 40, "neither a safetensors file nor a .pth"),
        (b"\n\n\n", "neither a safetensors file nor a .pth"),
        (b"PK\x03\x04" + bytes(100), "truncated or damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{", "header is too long"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all", "damaged safetensors header"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "neither"),
    ],
)
def test_not_a_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth") as error:
        read_shape(path)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_truncated_anywhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save(sample_weights(), tmp_path / "w.pth")
    save_file(sample_weights(), tmp_path / "w.safetensors")
    content = path.read_bytes()
    for size in (1, 5, 8, 9, 70, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"truncated|not a checkpoint"):
            read_shape(path)


def test_missing_file_and_unreadable_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_shape(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="no such file"):
        weights_fingerprint(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="holds no weights"):
        read_shape(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"it holds model\.pth: give that file"):
        read_shape(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_file_without_read_permission(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        read_shape(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "not an RWKV-7 checkpoint: model_type is 'llama'"),
        ({"model_type": None}, "not an RWKV-7 checkpoint"),
        ({"norm_eps": 1e-6, "hidden_act": "relu"}, "norm_eps=1e-06.*hidden_act='relu'"),
        ({"norm_first": False}, "norm_first=False"),
        ({"attn": {"layers": [1]}}, "attn="),
    ],
)
def test_folder_of_another_model(tmp_path: Path, config: dict[str, object], message: str) -> None:
    folder = write_folder(tmp_path / "w", hugging_face_weights(sample_weights()), config=config)
    with pytest.raises(UserError, match=message):
        read_shape(folder)


def test_broken_folders(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "w", hugging_face_weights(sample_weights()), shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UserError, match=r"not there: model-00002-of-00003\.safetensors"):
        read_shape(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="outside"):
        read_shape(folder)
    index.write_text("[1")
    with pytest.raises(UserError, match="not a safetensors index"):
        read_shape(folder)
    index.unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors nor"):
        read_shape(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        read_shape(folder)


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    a, b, c = (weights_fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c
    tensors = hugging_face_weights(sample_weights())
    two = write_folder(tmp_path / "two", tensors, shards=2)
    assert weights_fingerprint(two) != weights_fingerprint(
        write_folder(tmp_path / "three", tensors, shards=3)
    )


def test_header_and_tokenizer_never_import_torch(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(sample_weights(), path)
    code = (
        "import sys\n"
        "from fseed.config.schema import TokenizerKind\n"
        "from fseed.models.checkpoint_header import read_shape, weights_fingerprint\n"
        "from fseed.models.tokenizer import build_tokenizer\n"
        "read_shape(sys.argv[1]); weights_fingerprint(sys.argv[1])\n"
        "build_tokenizer(TokenizerKind.world).encode('text')\n"
        "heavy = {'torch', 'safetensors', 'rwkv', 'transformers'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
