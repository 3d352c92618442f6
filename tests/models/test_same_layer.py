"""The control ``same_layer``: the second pass over the prompt."""

import pytest
import torch
from torch import Tensor

from fseed.models.prompt_answer import answer_hidden, read_prompt
from fseed.ops.carried_state import materialize
from tests.models.build import SMALL, build_random_model
from tests.models.control_samples import BATCH, GATES, build_control, rms


@pytest.mark.parametrize("norm", ["rms", "none"])
@pytest.mark.parametrize("gate", GATES)
def test_same_layer_equals_reading_twice_by_hand(gate, norm):
    model = build_random_model()
    fs = build_control("same_layer", lstart=2, gate=gate, norm=norm, alpha_init=0.6, clip=0.4)
    first = model(BATCH.prompt, lengths=BATCH.prompt_lengths).state.wkv
    start = model.zero_state(3)
    for layer in (2, 3):
        x_last = torch.zeros(3, SMALL.width).double()
        start.wkv[layer] = materialize(fs.carry(first[layer], layer=layer, x_last=x_last)).detach()
    by_hand = model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=start)
    found = model(BATCH.prompt, lengths=BATCH.prompt_lengths, future_seed=fs)
    # the input gate starts blind to its input, so the zero vector by hand makes no difference
    torch.testing.assert_close(found.state.wkv, by_hand.state.wkv)
    torch.testing.assert_close(found.hidden[:, :5], by_hand.hidden[:, :5])


@pytest.mark.parametrize("detach", [True, False])
def test_same_layer_gradient_is_that_of_both_passes_by_hand(detach):
    model = build_random_model()
    fs = build_control("same_layer", lstart=2, alpha_init=0.6, detach=detach)
    weight = model.layers[2].att.key.weight

    def by_hand() -> Tensor:
        first = model(BATCH.prompt, lengths=BATCH.prompt_lengths).state.wkv
        start = model.zero_state(3)
        wkv = list(start.wkv)
        for layer in (2, 3):
            own = first[layer].detach() if detach else first[layer]
            gate = fs.gate(layer=layer, x_last=own[:, 0, 0])
            wkv[layer] = (gate * own / rms(own)[:, :, None, None]).clamp(-1, 1)
        state = type(start)(start.att_shift, torch.stack(wkv), start.ffn_shift)
        return model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=state).hidden

    found = model(BATCH.prompt, lengths=BATCH.prompt_lengths, future_seed=fs).hidden
    gradients = [
        torch.autograd.grad(h[:, :5].square().sum(), weight)[0] for h in (found, by_hand())
    ]
    torch.testing.assert_close(*gradients)


def test_same_layer_adds_an_explicit_state_to_both_passes():
    model = build_random_model()
    fs = build_control("same_layer", seed_scale=0.0)
    start = model.zero_state(3)
    start.wkv.normal_(generator=torch.Generator().manual_seed(1))
    arguments = {"lengths": BATCH.prompt_lengths, "state": start}
    found = model(BATCH.prompt, future_seed=fs, **arguments)
    assert torch.equal(found.state.wkv, model(BATCH.prompt, **arguments).state.wkv)


def test_same_layer_continues_a_prompt_from_the_second_pass():
    model, fs = build_random_model(), build_control("same_layer", alpha_init=1.0)
    _, state = read_prompt(model, BATCH, future_seed=fs)
    lengths = BATCH.answer_lengths - 1
    continued = model(BATCH.answer[:, :-1], lengths=lengths, state=state).hidden
    torch.testing.assert_close(answer_hidden(model, BATCH, future_seed=fs)[:, 1:], continued)


def test_same_layer_under_autocast_reaches_every_parameter():
    """Weights that autocast casts in the pass without a graph must not be used in the other."""
    model = build_random_model(dtype=torch.float32)
    fs = build_control("same_layer", alpha_init=0.5, detach=True).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = answer_hidden(model, BATCH, future_seed=fs)
    hidden[BATCH.answer_mask].float().square().sum().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert unused == {"head.weight"}
