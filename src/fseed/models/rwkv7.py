"""RWKV-7 ("x070") with its full decoding state, in the parameter names of the official files.

B batch, T tokens, L layers, C width, H heads. state [B, H, V, K]: row = value. The layers
themselves are in ``layers.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fseed.models.future_seed import FutureSeed
from fseed.models.layers import Block, BlockOutput
from fseed.models.shape import RWKV7Shape
from fseed.models.sharded import is_sharded
from fseed.models.text_end import TextEnd
from fseed.ops.continuation import Continuation, check_continued
from fseed.ops.embed_tokens import embed_tokens
from fseed.ops.wkv7 import check_backend


@dataclass(frozen=True)
class ModelState:
    """All that a text continues from, after its last true token; float32."""

    att_shift: Float[Tensor, "L B C"]  # ln1 output of the last token
    wkv: Float[Tensor, "L B H V K"]
    ffn_shift: Float[Tensor, "L B C"]  # ln2 output of the last token


@dataclass(frozen=True)
class ModelOutput:
    """Hidden vectors after ln_out and the state behind the last true token."""

    hidden: Float[Tensor, "B T C"]  # [B, 1, C] with only_last, [B, A+1, C] with continued
    state: ModelState


class RWKV7(nn.Module):
    """The backbone. ``state_dict()`` has exactly the official names and shapes."""

    def __init__(self, shape: RWKV7Shape) -> None:
        """Create the parameters of ``shape``; values come from a checkpoint or ``initialize``."""
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer=i) for i in range(shape.num_layers))
        self.ln_out = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        lengths: Int[Tensor, " B"] | None = None,
        state: ModelState | None = None,
        future_seed: FutureSeed | None = None,
        added: Float[Tensor, "B T C"] | None = None,
        noise_keys: Sequence[int] | None = None,
        only_last: bool = False,
        continued: Continuation | None = None,
    ) -> ModelOutput:
        """Read T tokens from ``state`` (zero at the start of a text).

        ``lengths`` counts the true tokens of right-padded rows; pads change no state. With
        ``future_seed`` each seeded layer starts from the final state of the layer below, added to
        its part of ``state`` (the controls differ, see ``controls.py``; random_state takes
        ``noise_keys``, one a sample). ``added`` is added to the token embeddings. The hidden
        vectors on pads mean nothing. ``only_last`` spares the topmost layer what the hidden vector
        of the last true token and the states do not need. ``continued`` are A tokens behind the
        true ones that read on from the full state, without Future-Seed; wanted are then the hidden
        vectors of the last true token and of those A, and the states are still those before them.

        Raises:
            ValueError: for ``continued`` without ``lengths``, behind which it stands.
        """
        check_continued(continued, lengths)
        lengths = None if lengths is None else lengths.to(torch.int32)
        end = None
        if only_last or continued is not None:
            end = TextEnd.find(lengths, tokens=tokens, continued=continued)
        state = self.zero_state(tokens.shape[0]) if state is None else state
        own = None
        if future_seed is not None and future_seed.reads_twice:
            # as many tokens as read on stand behind the longest text
            text = slice(0, tokens.shape[1] - (0 if continued is None else continued.size))
            texts = (tokens[:, text], lengths, state, None if added is None else added[:, text])
            own = self._own_final_states(*texts, with_graph=not future_seed.options.detach)
        x = self._embed(tokens) if added is None else self._embed(tokens) + added
        below: BlockOutput | None = None
        finals: list[tuple[Tensor, Tensor, Tensor]] = []
        # not one by one: the gradient of every selected part would be as large as the whole
        starts = (x.unbind(0) for x in (state.att_shift, state.wkv, state.ffn_shift))
        for i, (block, *start) in enumerate(zip(self.layers, *starts, strict=True)):
            att_shift, initial_state, ffn_shift = start
            carried = None
            if future_seed is not None and below is not None and future_seed.is_seeded(i):
                seed = (below.final_state, below.squares) if own is None else (own[i], None)
                x_last = _last_true(below.x, lengths)
                carried = future_seed.carry(*seed, layer=i, x_last=x_last, noise_keys=noise_keys)
            out: BlockOutput = block(
                x if below is None else below.x,
                att_shift=att_shift, initial_state=initial_state, ffn_shift=ffn_shift,
                carried=carried,
                v_first=None if below is None else below.v_first, lengths=lengths,
                continued=continued, end=end if i == self.shape.num_layers - 1 else None,
            )  # fmt: skip
            shifts = (_at_least_float32(out.att_shift), _at_least_float32(out.ffn_shift))
            finals.append((shifts[0], out.final_state, shifts[1]))
            below = out
        assert below is not None
        x = below.x if end is None else end.choose(below.x, backend=self.backend)
        att_shifts, wkvs, ffn_shifts = (torch.stack(parts) for parts in zip(*finals, strict=True))
        return ModelOutput(self.ln_out(x), ModelState(att_shifts, wkvs, ffn_shifts))

    def _embed(self, tokens: Tensor) -> Float[Tensor, "B T C"]:
        weight = self.emb.weight
        # FSDP2 gathers the table for a call of its module only, so there the plain form runs
        if is_sharded(weight):
            return self.emb(tokens)
        return embed_tokens(tokens, weight, backend=self.backend)

    def _own_final_states(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        state: ModelState,
        added: Tensor | None,
        *,
        with_graph: bool,
    ) -> Float[Tensor, "L B H V K"]:
        """Read the text once without Future-Seed: the first pass of the control same_layer."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and with_graph):
            own = self(tokens, lengths=lengths, state=state, added=added, only_last=True).state.wkv
        if not with_graph:
            # up to torch 2.9 at least, autocast would use weights cast here, without a graph, again
            torch.clear_autocast_cache()
        return own

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return cast(list[Block], list(self.blocks))

    def matrices(self) -> dict[str, nn.Parameter]:
        """Return by name what every token is multiplied with in the layers: read once a pass."""
        named = self.blocks.named_parameters("blocks")
        return {name: p for name, p in named if p.ndim == 2 and not name.endswith(".r_k")}

    @property
    def backend(self) -> str:
        """The operators that compute the layers, the embedding and the loss; see use_backend."""
        return self.layers[0].att.backend

    def use_backend(self, name: str) -> None:
        """Compute every layer with the operators ``name`` (see ``fseed.ops.wkv7.BACKENDS``).

        Raises:
            UserError: for a name that does not exist.
        """
        check_backend(name)
        for block in self.layers:
            block.att.backend = block.ffn.backend = name

    def recompute_layers(self) -> None:
        """Keep of every layer its inputs alone; the backward pass computes the rest again."""
        for block in self.layers:
            block.recompute = True

    def logits(self, hidden: Float[Tensor, "*S C"]) -> Float[Tensor, "*S vocab"]:
        """Project hidden vectors to the vocabulary."""
        return self.head(hidden)

    def zero_state(self, batch_size: int) -> ModelState:
        """Return the state before the first token of a text."""
        shape, weight = self.shape, self.emb.weight
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        zeros = torch.zeros(
            shape.num_layers, batch_size, shape.width, dtype=dtype, device=weight.device
        )
        size = (shape.num_layers, batch_size, shape.num_heads, shape.head_size, shape.head_size)
        wkv = torch.zeros(size, dtype=dtype, device=weight.device)
        return ModelState(zeros, wkv, zeros)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _last_true(x: Float[Tensor, "B T C"], lengths: Tensor | None) -> Float[Tensor, "B C"]:
    """Return the vector of the last true token of every row."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]
