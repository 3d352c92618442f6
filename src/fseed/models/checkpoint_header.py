"""Names, shapes and types of a checkpoint, read without torch and without the numbers.

Three forms: safetensors, official ``.pth`` (the zip format of ``torch.save``) and a Hugging Face
or FLA RWKV-7 folder. A file's form is told by its content, never by its name. Hugging Face names
come out as official ones.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.models.checkpoint_names import translate_name
from fseed.models.checkpoint_shape import Header, TensorInfo, shape_from_header
from fseed.models.safetensors_header import read_safetensors_header
from fseed.models.torch_zip import read_torch_zip_header

__all__ = [
    "Header",
    "TensorInfo",
    "find_weight_files",
    "read_header",
    "read_shape",
    "shape_from_header",
    "weights_fingerprint",
]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_TORCH_MAGIC = bytes.fromhex("80028a0a6cfc9c46f920")  # torch.save before torch 1.6
LFS_MAGIC = b"version https://git-lfs"

_FILE_SUFFIXES = (".pth", ".safetensors")

# what this backbone computes; a folder that says otherwise is another model under the same names
_CONFIG_CHOICES: dict[str, Any] = {
    "norm_first": True,
    "norm_bias": True,
    "norm_eps": 1e-5,
    "hidden_act": "sqrelu",
    "attn": None,
}


def read_shape(path: str | Path) -> dict[str, int]:
    """Return the sizes of the checkpoint at ``path``, the fields of ``RWKV7Shape``.

    Raises:
        UserError: if it is missing, unreadable, incomplete or of another architecture.
    """
    return shape_from_header(read_header(path), source=str(path))


def read_header(path: str | Path) -> Header:
    """Return the shape and type of every tensor of a checkpoint, in official names.

    Names that are neither official nor known from Hugging Face stay as they are.

    Raises:
        UserError: if the path is missing, truncated or not a checkpoint.
    """
    path = Path(path)
    header: Header = {}
    for file in find_weight_files(path):
        header |= _read_file_header(file)
    config = read_folder_config(path) if path.is_dir() else None
    return _official_header(header, tied=config is not None and is_tied(config))


def find_weight_files(path: str | Path) -> list[Path]:
    """Return the files that hold the numbers: the path itself, or the shards of a folder."""
    path = Path(path)
    if path.is_dir():
        read_folder_config(path)
        return _folder_files(path)
    if not path.exists():
        raise UserError(f"weights {path}: no such file or folder")
    return [path]


def weights_fingerprint(path: str | Path) -> str:
    """Return the sha256 hex of a file's bytes, or of the digests of a folder's files in order."""
    files = find_weight_files(path)
    try:
        digests = [_file_sha256(file) for file in files]
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error}") from error
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def is_zip(path: Path) -> bool:
    """Tell whether a file is in the zip format of ``torch.save`` (an official ``.pth``)."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def read_folder_config(path: Path) -> dict[str, Any]:
    """Return config.json of a Hugging Face folder.

    Raises:
        UserError: if it is missing, of another model type, or asks for a variant of RWKV-7 that
            this backbone does not compute.
    """
    config_path = path / "config.json"
    if not config_path.is_file():
        found = sorted(entry.name for entry in path.iterdir() if entry.suffix in _FILE_SUFFIXES)
        hint = f"it holds {', '.join(found)}: give that file" if found else "it holds no weights"
        raise UserError(f"weights {path} is a folder without config.json; {hint}")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{config_path} is not readable JSON: {error}") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != "rwkv7":
        raise UserError(f"weights {path} is not an RWKV-7 checkpoint: model_type is {model_type!r}")
    _check_config(config, path=config_path)
    return config


def is_tied(config: dict[str, Any]) -> bool:
    """Tell whether the output projection of a Hugging Face model is its embedding."""
    return bool(config.get("tie_word_embeddings", False))


def _check_config(config: dict[str, Any], *, path: Path) -> None:
    """Refuse options that change the computation; the shapes are checked on the tensors."""
    wrong = [
        f"{key}={config[key]!r} (supported: {value!r})"
        for key, value in _CONFIG_CHOICES.items()
        if key in config and config[key] != value
    ]
    if wrong:
        raise UserError(f"{path} asks for a variant that is not supported: {', '.join(wrong)}")


def _folder_files(path: Path) -> list[Path]:
    if (path / SINGLE_FILE).is_file():
        return [path / SINGLE_FILE]
    index_path = path / INDEX_FILE
    if not index_path.is_file():
        raise UserError(f"weights {path} has neither {SINGLE_FILE} nor {INDEX_FILE}")
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index_path} is not a safetensors index: {error!r}") from error
    # a shard name is a plain file name: an index must not reach outside its folder
    missing = [name for name in names if Path(name).name != name or not (path / name).is_file()]
    if missing or not names:
        raise UserError(f"{index_path} names shards that are not there: {', '.join(missing)}")
    return [path / name for name in names]


def _read_file_header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if not start:
            raise UserError(f"weights {path} is empty (0 bytes)")
        if start.startswith(ZIP_MAGIC):
            return read_torch_zip_header(path)
        if len(start) > 8 and start[8:9] == b"{":
            return read_safetensors_header(path)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from error
    raise UserError(f"weights {path} is not a checkpoint: {_describe_start(start)}")


def _describe_start(start: bytes) -> str:
    if start.startswith(LFS_MAGIC):
        return "it is a Git LFS pointer\nfetch the content with: git lfs pull"
    if start.startswith(LEGACY_TORCH_MAGIC):
        return "it is in the old format of torch.save (before torch 1.6)\nload it and save it again"
    first_line = start.decode("utf-8", errors="replace").split("\n")[0].rstrip()
    if first_line and first_line.isprintable() and "\ufffd" not in first_line:
        return f"it is a text file that starts with {first_line!r}"
    return "neither a safetensors file nor a .pth of torch.save"


def _official_header(header: Header, *, tied: bool) -> Header:
    official: Header = {}
    for name, info in header.items():
        translations = translate_name(name)
        if not translations:
            official[name] = info
        for part in translations:
            official[part.name] = TensorInfo(part.shape(info.shape), info.dtype)
    if tied and "emb.weight" in official:
        official.setdefault("head.weight", official["emb.weight"])
    return official


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
