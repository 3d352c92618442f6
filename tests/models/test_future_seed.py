import pytest
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.models.future_seed import FutureSeed, FutureSeedOptions, schedule_value
from fseed.models.prompt_answer import PromptAnswer, answer_hidden, read_prompt
from fseed.ops.carried_state import materialize
from tests.models.build import SMALL, build_batch, build_future_seed, build_random_model

GATES = ("scalar", "head", "inputgate", "raw")
BATCH = build_batch([9, 5, 7], [4, 2, 3])


def build_state(*, heads: int = 2, size: int = 16, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, heads, size, size, generator=generator) * 3


def carry(state: Tensor, *, layer: int = 2, **options) -> Tensor:
    fs = build_future_seed(**options).requires_grad_(False)
    return materialize(fs.carry(state, layer=layer, x_last=torch.zeros(3, SMALL.width)))


def carry_layer_3(fs: FutureSeed, state: Tensor) -> Tensor:
    return materialize(fs.carry(state, layer=3, x_last=torch.zeros(3, SMALL.width)))


@pytest.mark.parametrize(
    ("kind", "start", "low", "expected"),
    [
        ("cosine", 6, 0.4, [0.400, 0.457, 0.607, 0.793, 0.943, 1.000]),
        ("cosine", 8, 0.4, [0.400, 0.550, 0.850, 1.000]),
        ("linear", 6, 0.25, [0.25, 0.40, 0.55, 0.70, 0.85, 1.00]),
        ("none", 6, 0.25, [1.0] * 6),
    ],
)
def test_schedule_has_the_published_values(kind, start, low, expected):
    values = [
        schedule_value(kind, layer=i, start=start, last=11, low=low, high=1.0)
        for i in range(start, 12)
    ]
    assert values == pytest.approx(expected, abs=5e-4)


def test_schedule_of_a_single_seeded_layer_is_its_high_end():
    assert schedule_value("linear", layer=11, start=11, last=11, low=0.25, high=1.0) == 1.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"alpha_init": -2.0}, 0.1192),
        ({"alpha_init": -3.0}, 0.0474),
        ({"alpha_init": -4.0}, 0.0180),
        ({"gate": "head", "alpha_init": -3.0, "head_init": -3.0}, 0.00225),
        ({"gate": "inputgate", "alpha_init": -2.0}, 0.1192),
        ({"gate": "raw", "alpha_init": 0.0}, 0.0),
        ({"gate": "raw", "alpha_init": -0.5}, -0.5),
    ],
)
def test_gate_has_the_published_value_and_sets_the_rms(options, expected):
    fs = build_future_seed(**options)
    assert fs.gate_values()[0] == pytest.approx(expected, abs=5e-5)
    carried = carry(build_state(), clip=0.0, **options)
    rms = carried.square().mean((-2, -1)).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, abs(expected)), atol=5e-5, rtol=1e-3)


def test_clip_bounds_every_entry_and_zero_turns_it_off():
    state = build_state()
    assert float(carry(state, norm="none", clip=0.01).abs().max()) == pytest.approx(0.01)
    assert carry(state, norm="none", clip=0.0).abs().max() > 0.3


def test_norm_none_keeps_the_scale_of_the_state():
    state = build_state()
    torch.testing.assert_close(
        carry(state, norm="none", clip=0.0), state * torch.sigmoid(torch.tensor(-2.0))
    )


def test_rms_of_a_zero_state_is_zero_with_finite_gradient():
    state = torch.zeros(3, 2, 16, 16, requires_grad=True)
    carried = carry(state, detach=False)
    (gradient,) = torch.autograd.grad(carried.sum(), state)
    assert torch.equal(carried, torch.zeros_like(carried))
    assert torch.isfinite(gradient).all()


def test_shuffled_state_comes_from_another_sample():
    state = build_state()
    plain, shuffled = carry(state), carry(state, control="shuffled_state")
    torch.testing.assert_close(shuffled, plain.roll(1, 0))


def test_input_gate_is_per_sample_and_starts_at_the_scalar_gate():
    fs = build_future_seed(gate="inputgate")
    x_last = torch.randn(3, SMALL.width, generator=torch.Generator().manual_seed(0))
    start = fs.gate(layer=2, x_last=x_last)
    torch.testing.assert_close(start.flatten(), torch.sigmoid(torch.full((3,), -2.0)))
    with torch.no_grad():
        fs.input_weight.fill_(1.0)
        fs.input_bias.fill_(0.5)
    expected = torch.sigmoid(-2 + x_last.sum(1) / SMALL.width**0.5 + 0.5)
    torch.testing.assert_close(fs.gate(layer=2, x_last=x_last).flatten(), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha_init": -float("inf")},
        {"seed_scale": 0.0},
        {"gate": "raw", "alpha_init": 0.0},
        {"gate": "head", "head_init": -float("inf")},
        {"lstart": SMALL.num_layers},
    ],
)
def test_closed_gate_is_the_baseline_bit_for_bit(options):
    model = build_random_model(dtype=torch.float32)
    fs = build_future_seed(**options)
    last, state = read_prompt(model, BATCH, future_seed=fs)
    last_plain, state_plain = read_prompt(model, BATCH, future_seed=None)
    assert torch.equal(last, last_plain)
    assert torch.equal(state.wkv, state_plain.wkv)
    assert torch.equal(state.att_shift, state_plain.att_shift)


def test_closed_gate_trains_like_the_baseline_bit_for_bit():
    gradients = []
    for fs in (None, build_future_seed(seed_scale=0.0)):
        model = build_random_model(dtype=torch.float32)
        model.logits(answer_hidden(model, BATCH, future_seed=fs))[
            BATCH.answer_mask
        ].square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_open_gate_changes_the_seeded_layers_only():
    model = build_random_model()
    fs = build_future_seed(lstart=2, alpha_init=3.0).double()
    _, state = read_prompt(model, BATCH, future_seed=fs)
    _, plain = read_prompt(model, BATCH, future_seed=None)
    assert torch.equal(state.wkv[:2], plain.wkv[:2])
    assert not torch.allclose(state.wkv[2], plain.wkv[2])


def test_layer_starts_from_the_final_state_of_the_layer_below():
    model = build_random_model()
    fs = build_future_seed(lstart=3, alpha_init=1.0).double()
    _, plain = read_prompt(model, BATCH, future_seed=None)
    explicit = model.zero_state(3)
    explicit.wkv[3] = carry_layer_3(fs, plain.wkv[2])
    by_hand = model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=explicit)
    seeded = model(BATCH.prompt, lengths=BATCH.prompt_lengths, future_seed=fs)
    torch.testing.assert_close(seeded.state.wkv, by_hand.state.wkv)


def test_explicit_states_add_to_the_carried_state():
    model = build_random_model()
    fs = build_future_seed(lstart=3, alpha_init=1.0).double()
    start = model.zero_state(3)
    start.wkv.copy_(torch.randn(start.wkv.shape, generator=torch.Generator().manual_seed(1)))
    below = model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=start).state
    total = model.zero_state(3)
    total.wkv.copy_(start.wkv)
    total.wkv[3] += carry_layer_3(fs, below.wkv[2])
    expected = model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=total)
    actual = model(BATCH.prompt, lengths=BATCH.prompt_lengths, state=start, future_seed=fs)
    torch.testing.assert_close(actual.state.wkv, expected.state.wkv)


def _gradient_below(detach: bool) -> Tensor | None:
    """Gradient of the carried state alone (layer 3) in a parameter of layer 2."""
    model = build_random_model()
    fs = build_future_seed(lstart=3, alpha_init=1.0, detach=detach).double()
    carried = []
    original = fs.carry
    fs.carry = lambda *args, **kw: carried.append(original(*args, **kw)) or carried[-1]
    model(BATCH.prompt, lengths=BATCH.prompt_lengths, future_seed=fs)
    weight = model.blocks[2].att.key.weight
    state = materialize(carried[0])
    if not state.requires_grad:
        return None
    return torch.autograd.grad(state.square().sum(), weight, allow_unused=True)[0]


def test_detach_stops_the_gradient_into_the_layer_below():
    assert _gradient_below(detach=True) is None
    through = _gradient_below(detach=False)
    assert through is not None
    assert through.abs().sum() > 0


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("norm", ["rms", "none"])
def test_gradients_without_detach_match_finite_differences(gate, norm):
    torch.manual_seed(0)
    fs = build_future_seed(
        gate=gate, norm=norm, detach=False, clip=0.6, alpha_init=-0.3, head_init=0.5
    ).double()
    state = (build_state(size=3) / 3).double().requires_grad_()
    x_last = torch.randn(3, SMALL.width, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in fs.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in fs.parameters()]

    def function(state, x_last, *parameters):
        kwargs = {"layer": 2, "x_last": x_last}
        replaced = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            _Carry(fs), {f"fs.{n}": p for n, p in replaced.items()}, (state, kwargs)
        )

    assert torch.autograd.gradcheck(function, (state, x_last, *values))


class _Carry(torch.nn.Module):
    def __init__(self, fs: FutureSeed) -> None:
        super().__init__()
        self.fs = fs

    def forward(self, state, kwargs):
        return materialize(self.fs.carry(state, **kwargs))


@pytest.mark.parametrize("gate", GATES)
def test_one_pass_without_future_seed_is_two_passes(gate):
    model = build_random_model()
    whole = torch.cat((BATCH.prompt[:1, :9], BATCH.answer[:1, :4]), 1)
    alone = PromptAnswer(
        BATCH.prompt[:1], BATCH.prompt_lengths[:1], BATCH.answer[:1], BATCH.answer_lengths[:1]
    )
    one = model(whole).hidden[:, 8:-1]
    two = answer_hidden(
        model, alone, future_seed=build_future_seed(gate=gate, seed_scale=0.0).double()
    )
    torch.testing.assert_close(two, one)


@pytest.mark.parametrize("options", [None, *({"gate": g, "alpha_init": 0.5} for g in GATES)])
def test_padding_and_batch_mates_change_nothing(options):
    model = build_random_model()
    fs = build_future_seed(lstart=1, **options).double() if options is not None else None
    together = answer_hidden(model, BATCH, future_seed=fs)
    for i, (p, a) in enumerate(zip(BATCH.prompt_lengths, BATCH.answer_lengths, strict=True)):
        alone = PromptAnswer(
            BATCH.prompt[i : i + 1, :p], p.view(1), BATCH.answer[i : i + 1, :a], a.view(1)
        )
        torch.testing.assert_close(
            together[i : i + 1, :a], answer_hidden(model, alone, future_seed=fs)
        )


def test_negative_lstart_is_refused():
    with pytest.raises(UserError, match=r"lstart=-1; allowed: 1\.\.3"):
        FutureSeed(FutureSeedOptions(lstart=-1), num_layers=4, num_heads=2, width=32)


def test_gates_stay_float32_under_autocast():
    fs = build_future_seed(gate="inputgate")
    with torch.no_grad():
        fs.input_weight.normal_(generator=torch.Generator().manual_seed(0))
    x_last = torch.randn(3, SMALL.width, generator=torch.Generator().manual_seed(1))
    plain = materialize(fs.carry(build_state(), layer=2, x_last=x_last))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = materialize(fs.carry(build_state(), layer=2, x_last=x_last))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)
