"""Decoding whose step of one token is a CUDA graph, with the ids of the plain loop.

The step is captured once per batch shape, on buffers at fixed addresses, and replayed for every
further token. The chosen ids stay on the device; every few steps the host looks whether all samples
have ended. B batch, S new tokens at most.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from fseed.models.generation import check_options, choose_tokens, draw_uniform, generate
from fseed.models.rwkv7 import RWKV7, ModelState
from fseed.ops.cuda_graphs import CudaGraphRecorder, Recorder
from fseed.ops.kernel_dtype import KERNEL_BACKENDS

LOOK_EVERY_STEPS = 16  # a look waits for the device; up to 15 steps more are done than needed
Choose = Callable[[Tensor, int], Tensor]  # logits [B, vocab] and the step -> ids [B]


class Decoder(Protocol):
    """Decodes a batch: ``generation.generate`` for a model that is known."""

    def __call__(
        self,
        state: ModelState,
        logits: Float[Tensor, "B vocab"],
        *,
        max_new_tokens: int,
        end_of_text: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[list[int]]:
        """Return the new ids of every sample, without the end-of-text id that stops it."""
        ...


def build_decoder(model: RWKV7) -> Decoder:
    """Return what decodes batch after batch; weights of ``model`` change in place or not at all.

    On the kernels of a GPU that is a captured step, elsewhere the plain loop.
    """
    if model.emb.weight.device.type == "cuda" and model.backend in KERNEL_BACKENDS:
        return CapturedDecoder(model)
    return partial(generate, model)


class CapturedDecoder:
    """Decodes batches with a recorded step; only that of the latest batch shape is kept."""

    def __init__(
        self, model: RWKV7, *, new_recorder: Callable[[], Recorder] = CudaGraphRecorder
    ) -> None:
        """Record nothing yet; weights of ``model`` may change between batches, if in place."""
        self._model, self._new_recorder = model, new_recorder
        self._step: RecordedStep | None = None

    @torch.no_grad()
    def __call__(
        self,
        state: ModelState,
        logits: Float[Tensor, "B vocab"],
        *,
        max_new_tokens: int,
        end_of_text: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[list[int]]:
        """Return the ids that ``generation.generate`` returns for the same arguments.

        Every generator gives the numbers of all S steps, whenever its sample ends.

        Raises:
            ValueError: for sampling options out of range, or sampling without one generator each.
        """
        check_options(len(logits), temperature=temperature, top_p=top_p, generators=generators)
        choose: Choose = _choose_likeliest
        if temperature > 0 and generators is not None:
            uniform = draw_uniform(generators, count=max_new_tokens).to(logits.device)
            choose = partial(_choose_at, uniform, temperature=temperature, top_p=top_p)
        step = self._start(state, logits)
        ids = torch.full(
            (len(logits), max_new_tokens), end_of_text, dtype=torch.int64, device=logits.device
        )
        for first in range(0, max_new_tokens, LOOK_EVERY_STEPS):
            if first > 0 and bool((ids[:, :first] == end_of_text).any(1).all()):
                break
            last = min(first + LOOK_EVERY_STEPS, max_new_tokens)
            decode_tokens(step, choose, range(first, last), into=ids)
        return [_until_end(row, end_of_text) for row in ids.tolist()]

    def _start(self, state: ModelState, logits: Tensor) -> "RecordedStep":
        """Return the step for batches of this shape, in front of the first token of this one."""
        if self._step is None or not self._step.fits(logits):
            # what the one before holds is given back first; its memory pool goes with it
            self._step = None
            self._step = RecordedStep(self._model, state, logits, self._new_recorder())
        self._step.start(state, logits)
        return self._step


def decode_tokens(
    step: "RecordedStep", choose: Choose, places: range, *, into: Int[Tensor, "B S"]
) -> None:
    """Choose the tokens number ``places`` of every sample; nothing here waits for a device."""
    for place in places:
        if place > 0:
            step.replay()
        step.tokens.copy_(choose(step.logits, place))
        into[:, place] = step.tokens


class RecordedStep:
    """One token of a batch, read from ``tokens``, taken into ``state``, which gives ``logits``."""

    def __init__(self, model: RWKV7, state: ModelState, logits: Tensor, recorder: Recorder) -> None:
        """Record it with the autocast that is on here, for batches of the shape of ``logits``."""
        self.tokens = logits.argmax(-1)
        self.logits = logits.clone()
        self.state = ModelState(state.att_shift.clone(), state.wkv.clone(), state.ffn_shift.clone())
        self._module = _OneToken(model)
        self._weights = cast_weights(self._module)
        parameters = dict(self._module.named_parameters())
        self._sources = [parameters[name].detach() for name in self._weights]
        # compiles and checks kernels, makes workspaces: all that cannot be captured
        self._advance()
        self.replay = recorder.capture(self._advance)

    def fits(self, logits: Tensor) -> bool:
        """Tell whether a batch with these logits can be decoded."""
        return logits.shape == self.logits.shape and logits.dtype == self.logits.dtype

    def start(self, state: ModelState, logits: Tensor) -> None:
        """Take over what a prompt has left behind, and the weights as they are now."""
        for weight, source in zip(self._weights.values(), self._sources, strict=True):
            weight.copy_(source)
        self._write(state, logits)

    def _advance(self) -> None:
        kind = self.tokens.device.type
        is_on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # what autocast remembers is let go with its context, and a replay would read it then
        with torch.autocast(kind, enabled=is_on, dtype=dtype, cache_enabled=False):
            state, logits = functional_call(
                self._module, self._weights, (self.tokens.unsqueeze(1), self.state)
            )
        self._write(state, logits)

    def _write(self, state: ModelState, logits: Tensor) -> None:
        self.logits.copy_(logits)
        self.state.att_shift.copy_(state.att_shift)
        self.state.wkv.copy_(state.wkv)
        self.state.ffn_shift.copy_(state.ffn_shift)


class _OneToken(nn.Module):
    """The model as one function of its parameters: a token a sample in, its logits out."""

    def __init__(self, model: RWKV7) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "B 1"], state: ModelState) -> tuple[ModelState, Tensor]:
        output = self.model(tokens, state=state)
        return output.state, self.model.logits(output.hidden[:, 0])


def cast_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of matrix products in the dtype that autocast casts them to, by name.

    Cast here once, and not once a token, to the same numbers. Empty where autocast is off.
    """
    parameters = dict(module.named_parameters())
    kind = next(iter(parameters.values())).device.type
    if not torch.is_autocast_enabled(kind):
        return {}
    dtype = torch.get_autocast_dtype(kind)
    # the embedding is looked up, r_k is read by an operator that is no product: both as they are
    return {
        name: parameter.detach().to(dtype)
        for name, parameter in parameters.items()
        if parameter.ndim == 2 and not name.endswith(("emb.weight", "r_k"))
    }


def _choose_likeliest(logits: Tensor, place: int) -> Tensor:
    return logits.argmax(-1)


def _choose_at(
    uniform: Float[Tensor, "B S"], logits: Tensor, place: int, *, temperature: float, top_p: float
) -> Tensor:
    return choose_tokens(logits, uniform[:, place], temperature=temperature, top_p=top_p)


def _until_end(ids: list[int], end_of_text: int) -> list[int]:
    return ids[: ids.index(end_of_text)] if end_of_text in ids else ids
