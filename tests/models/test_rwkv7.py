import pytest
import torch

from fseed.errors import UserError
from fseed.models.initialization import initialize
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from tests.models.build import SMALL, build_random_model

TOKENS = torch.randint(1, SMALL.vocab_size, (2, 11), generator=torch.Generator().manual_seed(0))


def test_step_by_step_equals_whole_prompt_in_logits_and_all_states():
    model = build_random_model()
    whole = model(TOKENS)
    state, hidden = model.zero_state(2), []
    for t in range(TOKENS.shape[1]):
        out = model(TOKENS[:, t : t + 1], state=state)
        state, hidden = out.state, [*hidden, out.hidden]
    torch.testing.assert_close(torch.cat(hidden, 1), whole.hidden)
    for name in ("att_shift", "wkv", "ffn_shift"):
        torch.testing.assert_close(getattr(state, name), getattr(whole.state, name))


def test_lengths_zero_leave_the_state_untouched():
    model = build_random_model()
    start = model(TOKENS).state
    out = model(TOKENS, lengths=torch.tensor([0, 11]), state=start)
    for name in ("att_shift", "wkv", "ffn_shift"):
        assert torch.equal(getattr(out.state, name)[:, 0], getattr(start, name)[:, 0])


@pytest.mark.parametrize("lengths", [[11, 11], [2, 7], [1, 2], [0, 11], None])
@pytest.mark.parametrize("backend", ["chunked", "reference"])
def test_the_last_token_alone_is_that_of_the_whole_text(lengths, backend):
    model = build_random_model()
    model.use_backend(backend)
    start, counted = model(TOKENS).state, None if lengths is None else torch.tensor(lengths)
    whole = model(TOKENS, lengths=counted, state=start)
    last = model(TOKENS, lengths=counted, state=start, only_last=True)
    true = [row for row in range(2) if lengths is None or lengths[row] > 0]
    ends = [10 if lengths is None else lengths[row] - 1 for row in true]
    expected = whole.hidden[true, ends]
    torch.testing.assert_close(last.hidden[true, 0], expected)
    for name in ("att_shift", "wkv", "ffn_shift"):
        torch.testing.assert_close(getattr(last.state, name), getattr(whole.state, name))
    found, correct = (
        torch.autograd.grad(
            hidden.square().sum() + state.wkv.square().sum() + state.ffn_shift.square().sum(),
            list(model.parameters()),
            materialize_grads=True,
            retain_graph=True,
        )
        for hidden, state in ((last.hidden[true, 0], last.state), (expected, whole.state))
    )
    torch.testing.assert_close(found, correct)


def test_the_last_of_one_token():
    model = build_random_model()
    one = TOKENS[:, :1]
    torch.testing.assert_close(model(one, only_last=True).hidden, model(one).hidden)


def test_backends_agree():
    model, reference = build_random_model(), RWKV7(SMALL).double()
    reference.load_state_dict(model.state_dict())
    reference.use_backend("reference")
    torch.testing.assert_close(model(TOKENS).hidden, reference(TOKENS).hidden)


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="'fast' does not exist; allowed: reference, chunked"):
        build_random_model().use_backend("fast")


def test_every_parameter_gets_a_gradient():
    model = build_random_model()
    model.logits(model(TOKENS).hidden).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


def test_initialisation_is_the_official_one():
    shape = RWKV7Shape(
        num_layers=3, width=64, head_size=32, ffn_width=256, decay_rank=16, in_context_rank=16,
        value_rank=16, gate_rank=16, vocab_size=256,
    )  # fmt: skip
    model = initialize(RWKV7(shape), generator=torch.Generator().manual_seed(0))
    att = model.blocks[1].att
    depth, n = 0.5, 40
    zigzag = ((n % 32) - 15.5) / 15.5
    zigzag *= abs(zigzag)
    w0 = -6 + 6 * (n / 63) ** (1 + depth**0.3) + 0.5 + 2.5 * zigzag
    torch.testing.assert_close(att.w0[0, 0, n], torch.tensor(w0))
    torch.testing.assert_close(
        att.a0[0, 0, n], torch.tensor(-0.19 + zigzag * 0.3 + (n / 63 - 0.5) * 0.4)
    )
    torch.testing.assert_close(att.x_k[0, 0, n], torch.tensor(1 - (n / 64) ** (0.7 * 2 / 3)))
    torch.testing.assert_close(att.ln_x.weight, torch.full((64,), (2 / 3) ** 0.7))
    torch.testing.assert_close(att.w2 @ att.w2.T, 0.01 * torch.eye(16))
    assert att.output.weight.abs().sum() == att.w1.abs().sum() == 0
    assert model.blocks[1].att.key.weight.abs().max() <= 0.05 / 8
    # a residual stream that only passes the embedding starts near the uniform guess
    logits = model.logits(model(torch.arange(1, 65).view(1, -1)).hidden).detach()
    assert abs(float(logits.logsumexp(-1).mean()) - float(torch.tensor(256.0).log())) < 0.2


def test_initialisation_depends_on_the_seed_alone():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(99 + len(states))
        model = initialize(RWKV7(SMALL), generator=torch.Generator().manual_seed(seed))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["emb.weight"], states[2]["emb.weight"])
