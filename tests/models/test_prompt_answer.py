"""Prompt and answer in one row: what one after the other gives, to the last gradient."""

import pytest
import torch
from torch import Tensor

from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer, answer_hidden, join, read_prompt
from fseed.models.rwkv7 import RWKV7
from tests.models.build import build_batch, build_future_seed, build_random_model

BATCHES = {
    "ragged": build_batch([9, 5, 7], [4, 2, 3]),
    "one token": build_batch([1, 1], [3, 2]),
    "short beside long": build_batch([1, 8], [2, 6]),
    "no answer but the first token": build_batch([6, 4], [1, 1]),
    "one row": build_batch([9], [4]),
}
ARMS = {
    "no_fs": None,
    "scalar": {"alpha_init": 0.5},
    "inputgate": {"gate": "inputgate", "alpha_init": 0.5},
    "attached": {"gate": "head", "detach": False, "alpha_init": 0.5, "head_init": 0.3},
    "same_layer": {"control": "same_layer", "alpha_init": 0.5},
    "same_layer attached": {"control": "same_layer", "detach": False, "alpha_init": 0.5},
    "learned_state": {"control": "learned_state", "alpha_init": 0.5},
    "shuffled_state": {"control": "shuffled_state", "alpha_init": 0.5},
}


def build_arm(name: str) -> tuple[RWKV7, FutureSeed | None]:
    options = ARMS[name]
    return build_random_model(), None if options is None else build_future_seed(**options).double()


def read_apart(model: RWKV7, batch: PromptAnswer, future_seed: FutureSeed | None) -> Tensor:
    """The definition: a pass over the prompt, then one over the answer from its states."""
    last, state = read_prompt(model, batch, future_seed=future_seed)
    if batch.answer.shape[1] == 1:
        return last.unsqueeze(1)
    answer = model(batch.answer[:, :-1], lengths=batch.answer_lengths - 1, state=state)
    return torch.cat((last.unsqueeze(1), answer.hidden), 1)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("arm", ARMS)
def test_together_is_one_after_the_other(arm, kind):
    batch, (model, fs) = BATCHES[kind], build_arm(arm)
    parameters = [*model.parameters(), *(() if fs is None else fs.parameters())]
    found = []
    for hidden in (
        answer_hidden(model, batch, future_seed=fs),
        read_apart(model, batch, fs),
    ):
        true = hidden[batch.answer_mask]
        weights = torch.randn(true.shape, generator=torch.Generator().manual_seed(1)).double()
        gradients = torch.autograd.grad(
            (true * weights).sum(), parameters, materialize_grads=True, allow_unused=True
        )
        found.append((true, gradients))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("arm", ["no_fs", "scalar"])
def test_the_state_is_the_one_behind_the_prompt(arm):
    batch, (model, fs) = BATCHES["ragged"], build_arm(arm)
    tokens, continued = join(batch)
    given = {"lengths": batch.prompt_lengths, "future_seed": fs}
    found = model(tokens, **given, continued=continued).state
    expected = model(batch.prompt, **given).state
    for name in ("att_shift", "wkv", "ffn_shift"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_answers_stand_right_behind_their_prompts():
    batch = BATCHES["short beside long"]
    tokens, continued = join(batch)
    assert tokens.shape == (2, 8 + 5)
    for row, (p, a) in enumerate(zip(batch.prompt_lengths, batch.answer_lengths, strict=True)):
        text = torch.cat((batch.prompt[row, :p], batch.answer[row, : a - 1]))
        assert torch.equal(tokens[row, : p + a - 1], text)
    assert continued.lengths.tolist() == [1, 5]


@pytest.mark.parametrize("kind", BATCHES)
def test_a_closed_gate_is_the_baseline_bit_for_bit(kind):
    fs = build_future_seed(seed_scale=0.0).double()
    closed, baseline = (
        answer_hidden(build_random_model(), BATCHES[kind], future_seed=arm) for arm in (fs, None)
    )
    mask = BATCHES[kind].answer_mask
    assert torch.equal(closed[mask], baseline[mask])
