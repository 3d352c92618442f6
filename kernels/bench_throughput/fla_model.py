"""flash-linear-attention's RWKV7ForCausalLM with the weights of ours, and proof that it is so.

``fseed.models.checkpoint_names`` is the table of names: it says for every tensor of theirs which
official one it is and how its numbers stand. Theirs starts anew at every text, so a batch is the
true tokens of prompt and answer in one row, and only answer tokens are labels.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fseed.models.checkpoint_names import Layout, translate_name
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape

IGNORED = -100  # label of what is not predicted
# relative distance of bf16 logits, and losses, from float32 ones of the same weights and tokens
PARITY = 4e-2


class NotEqual(Exception):
    """The two models differ by more than the bound."""


def build_fla(model: RWKV7, *, fused_loss: bool) -> nn.Module:
    """Return their model in training mode with the weights of ours, on its device.

    ``fused_loss``: linear and cross-entropy in one, in chunks; else a plain cross-entropy.
    """
    from fla.models.rwkv7 import (  # pyright: ignore[reportMissingImports] installed or not
        RWKV7Config,
        RWKV7ForCausalLM,
    )

    shape = model.shape
    config = RWKV7Config(
        **sizes_of(shape),
        fuse_norm=True,
        fuse_cross_entropy=False,
        fuse_linear_cross_entropy=fused_loss,
        use_l2warp=False,  # a term of its own in the loss, which ours does not have
        use_cache=False,
    )
    theirs = RWKV7ForCausalLM(config)
    theirs.load_state_dict(to_fla(model, theirs.state_dict()), strict=True)
    return theirs.to(model.emb.weight.device).train()


def sizes_of(shape: RWKV7Shape) -> dict[str, Any]:
    """Return the sizes in their words."""
    return {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.num_layers,
        "head_dim": shape.head_size,
        "intermediate_size": shape.ffn_width,
        "decay_low_rank_dim": shape.decay_rank,
        "a_low_rank_dim": shape.in_context_rank,
        "v_low_rank_dim": shape.value_rank,
        "gate_low_rank_dim": shape.gate_rank,
        "vocab_size": shape.vocab_size,
    }


def to_fla(model: RWKV7, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of ``wanted`` (their names and shapes) with the numbers of ours.

    Raises:
        NotEqual: for a tensor that has no counterpart, on either side.
    """
    official = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        translations = translate_name(name)
        if len(translations) != 1 or translations[0].name not in official:
            raise NotEqual(f"their {name} is none of ours")
        ours = official.pop(translations[0].name)
        ours = ours.mT if translations[0].layout is Layout.transposed else ours
        found[name] = ours.detach().reshape(tensor.shape).contiguous()
    if official:
        raise NotEqual(f"they have no {', '.join(sorted(official)[:3])}")
    return found


def join_rows(batch: PromptAnswer) -> tuple[Tensor, Tensor]:
    """Return ids and labels [B, T]: the true tokens of prompt and answer, then pads."""
    rows, labels = [], []
    for i in range(batch.prompt.shape[0]):
        prompt = batch.prompt[i, : int(batch.prompt_lengths[i])]
        answer = batch.answer[i, : int(batch.answer_lengths[i])]
        rows.append(torch.cat((prompt, answer)))
        labels.append(torch.cat((torch.full_like(prompt, IGNORED), answer)))
    pad = nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(labels, batch_first=True, padding_value=IGNORED)


def check_parity(
    model: RWKV7,
    theirs: nn.Module,
    batch: PromptAnswer,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """Return the distances of their logits and loss on ``batch`` from ours in float32.

    Theirs runs as it is trained, for its kernels are compiled for nothing else.

    Raises:
        NotEqual: where they are beyond the bound of bf16; speed would mean nothing.
    """
    device = model.emb.weight.device
    ids, labels = (part.to(device) for part in join_rows(batch))
    model.use_backend("chunked")
    with torch.no_grad():
        ours = model.logits(model(ids).hidden)
        with autocast():
            # without labels and a mode of its own for few tokens: the logits of every position
            logits = theirs(ids, logits_to_keep=None).logits.float()
    found = {
        "logits": float((logits - ours).norm() / ours.norm()),
        "loss": float(abs(_mean_loss(logits, labels) / _mean_loss(ours, labels) - 1)),
    }
    if not max(found.values()) <= PARITY:
        raise NotEqual(f"logits and loss are apart by {found}, above {PARITY}")
    return found | {"bound": PARITY}


def _mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
