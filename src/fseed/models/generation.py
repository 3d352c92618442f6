"""Recurrent decoding: one token per step from the full carried state. B batch, V vocabulary.

This is the plain loop, on every device and backend; ``captured_decode.py`` replays a CUDA graph for
the same ids.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fseed.models.rwkv7 import RWKV7, ModelState


@torch.no_grad()
def generate(
    model: RWKV7,
    state: ModelState,
    logits: Float[Tensor, "B vocab"],
    *,
    max_new_tokens: int,
    end_of_text: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generators: Sequence[torch.Generator] | None = None,
) -> list[list[int]]:
    """Return the new ids of every sample, without the end-of-text id that stops it.

    ``state`` is the one behind the last prompt token and ``logits`` what that token predicts.
    Temperature 0 is greedy. Sampling takes one CPU generator per sample, so what a sample draws
    depends on nothing but its own generator and logits. A finished sample stays in the batch,
    unread: the shape of every matrix product stays, and with it each other sample's arithmetic.

    Raises:
        ValueError: for sampling options out of range, or sampling without one generator each.
    """
    check_options(len(logits), temperature=temperature, top_p=top_p, generators=generators)
    ids: list[list[int]] = [[] for _ in logits]
    running = torch.ones(len(logits), dtype=torch.bool)
    for step in range(max_new_tokens):
        if temperature == 0 or generators is None:
            tokens = logits.argmax(-1)
        else:
            tokens = sample_tokens(
                logits, temperature=temperature, top_p=top_p, generators=generators
            )
        chosen = tokens.cpu()
        running &= chosen != end_of_text
        for i in running.nonzero().flatten().tolist():
            ids[i].append(int(chosen[i]))
        if step + 1 == max_new_tokens or not running.any():
            break
        output = model(tokens.unsqueeze(1), state=state)
        logits, state = model.logits(output.hidden[:, 0]), output.state
    return ids


@torch.no_grad()
def sample_tokens(
    logits: Float[Tensor, "B vocab"],
    *,
    temperature: float,
    top_p: float,
    generators: Sequence[torch.Generator],
) -> Int[Tensor, " B"]:
    """Draw one id per row from the smallest set of ids whose probability reaches ``top_p``.

    Row i spends exactly one uniform number of ``generators[i]``.
    """
    uniform = draw_uniform(generators, count=1).to(logits.device)
    return choose_tokens(logits, uniform.squeeze(1), temperature=temperature, top_p=top_p)


def draw_uniform(generators: Sequence[torch.Generator], *, count: int) -> Float[Tensor, "B count"]:
    """Draw the next ``count`` uniform numbers of every generator, float64 on the CPU."""
    return torch.stack([torch.rand(count, generator=g, dtype=torch.float64) for g in generators])


@torch.no_grad()
def choose_tokens(
    logits: Float[Tensor, "B vocab"],
    uniform: Float[Tensor, " B"],
    *,
    temperature: float,
    top_p: float,
) -> Int[Tensor, " B"]:
    """Return the ids at the places ``uniform`` in [0, 1) of what ``top_p`` leaves; float64.

    Nothing here waits for a device.
    """
    probabilities, order = torch.softmax(logits.double() / temperature, -1).sort(
        dim=-1, descending=True, stable=True
    )
    cumulative = probabilities.cumsum(-1)
    # an id stays while the mass before it is below top_p, so the likeliest always stays
    mass_before = cumulative - probabilities
    kept = probabilities.masked_fill(mass_before >= top_p, 0.0).cumsum(-1)
    target = uniform.unsqueeze(1) * kept[:, -1:]
    # the first entry whose cumulative mass exceeds the target: never one of mass 0
    position = torch.searchsorted(kept, target, right=True).clamp_max(kept.shape[1] - 1)
    return order.gather(1, position).squeeze(1)


def check_options(
    batch_size: int,
    *,
    temperature: float,
    top_p: float,
    generators: Sequence[torch.Generator] | None,
) -> None:
    """Refuse sampling options out of range, and sampling without one generator a sample.

    Raises:
        ValueError: with the value and what is allowed.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must be 0 (greedy) or positive")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]")
    num_generators = 0 if generators is None else len(generators)
    if temperature > 0 and num_generators != batch_size:
        raise ValueError(
            f"sampling {batch_size} samples needs {batch_size} generators, not {num_generators}"
        )
