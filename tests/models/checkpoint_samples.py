"""Small checkpoints for the tests, in the official and in the Hugging Face form."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fseed.models.parity import build_random_weights
from fseed.models.shape import RWKV7Shape

SHAPE = RWKV7Shape(
    num_layers=3, width=48, head_size=16, ffn_width=80, decay_rank=5, in_context_rank=6,
    value_rank=7, gate_rank=9, vocab_size=23,
)  # fmt: skip


def sample_weights(shape: RWKV7Shape = SHAPE, *, seed: int = 0) -> dict[str, Tensor]:
    return build_random_weights(shape, generator=torch.Generator().manual_seed(seed))


def hugging_face_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename by the listing of ``RWKV7ForCausalLM.state_dict()``, flash-linear-attention 0.6.0."""
    result = {
        "model.embeddings.weight": weights["emb.weight"],
        "model.norm.weight": weights["ln_out.weight"],
        "model.norm.bias": weights["ln_out.bias"],
        "lm_head.weight": weights["head.weight"],
    }
    for name, tensor in weights.items():
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            new, value = _hugging_face_block(rest, tensor)
            result[f"model.layers.{layer}.{new}"] = value.contiguous()
    return result


def _hugging_face_block(rest: str, tensor: Tensor) -> tuple[str, Tensor]:
    modules = {
        "ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm", "att.ln_x": "attn.g_norm",
        "att.receptance": "attn.r_proj", "att.key": "attn.k_proj", "att.value": "attn.v_proj",
        "att.output": "attn.o_proj", "ffn.key": "ffn.key", "ffn.value": "ffn.value",
    }  # fmt: skip
    module, _, leaf = rest.rpartition(".")
    if module in modules:
        return f"{modules[module]}.{leaf}", tensor
    if module == "ffn" or leaf in ("k_k", "k_a"):
        return rest.replace("att.", "attn."), tensor.flatten()
    if leaf[1:] == "0":
        return f"attn.{leaf[0]}_lora.lora.2.bias", tensor.flatten()
    if leaf[1:] in ("1", "2"):
        number = {"1": "0", "2": "2"}[leaf[1:]]
        return f"attn.{leaf[0]}_lora.lora.{number}.weight", tensor.t()
    return f"attn.{leaf}", tensor  # r_k and the token-shift vectors [1, 1, C]


def write_folder(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    shards: int = 1,
    config: dict[str, object] | None = None,
) -> Path:
    """Write a Hugging Face folder with config.json and one file, or shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv7", **(config or {})}))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
