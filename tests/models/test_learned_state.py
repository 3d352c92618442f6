"""The control ``learned_state``: a trained start that no prompt changes."""

import pytest
import torch
from torch import Tensor

from fseed.models.controls import LEARNED_START_STD
from fseed.models.prompt_answer import answer_hidden
from fseed.ops.carried_state import materialize
from tests.models.build import SMALL, build_future_seed, build_random_model
from tests.models.control_samples import BATCH, GATES, build_control, random_states


@pytest.mark.parametrize("gate", GATES)
def test_learned_state_has_as_many_parameters_as_gate_plus_state(gate):
    def count(control: str) -> int:
        return sum(p.numel() for p in build_control(control, gate=gate, lstart=2).parameters())

    # two seeded layers of two heads of 16 x 16
    assert count("learned_state") == count("none") + 2 * 2 * 16 * 16


def test_learned_state_starts_small_random_and_knows_its_seed():
    starts = []
    for seed in (0, 0, 1):
        fs = build_future_seed(control="learned_state")
        assert fs.learned_state is not None
        fs.learned_state.initialize(seed=seed)
        starts.append(fs.learned_state.weight.detach())
    assert float(starts[0].std()) == pytest.approx(LEARNED_START_STD, rel=0.1)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_learned_state_is_the_same_for_every_prompt():
    fs = build_control("learned_state", alpha_init=0.5, norm="none").requires_grad_(False)
    x_last = torch.zeros(3, SMALL.width)
    found = [materialize(fs.carry(random_states(seed=s), layer=2, x_last=x_last)) for s in (3, 4)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0][0], found[0][2])


@pytest.mark.parametrize("norm", ["rms", "none"])
@pytest.mark.parametrize("detach", [True, False])
def test_learned_state_gradient_matches_finite_differences(norm, detach):
    model = build_random_model()
    fs = build_control("learned_state", norm=norm, detach=detach, alpha_init=0.5, clip=0.9)
    assert fs.learned_state is not None
    weight = fs.learned_state.weight
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # large enough for the clip to bind somewhere
        weight.mul_(40)
    target = torch.randn(3, 4, SMALL.width, generator=generator, dtype=torch.float64)

    def loss() -> Tensor:
        return (answer_hidden(model, BATCH, future_seed=fs) * target)[BATCH.answer_mask].sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    assert gradient.abs().sum() > 0
    for _ in range(4):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        step = 1e-6
        with torch.no_grad():
            weight += step * direction
            above = loss()
            weight -= 2 * step * direction
            below = loss()
            weight += step * direction
        numeric = float((above - below) / (2 * step))
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-5)


def test_a_raw_gate_at_zero_can_leave_it_with_a_learned_state():
    """Both at zero would have no gradient: why the state does not start at zero."""
    model = build_random_model()
    fs = build_control("learned_state", gate="raw", alpha_init=0.0)
    answer_hidden(model, BATCH, future_seed=fs).square().sum().backward()
    assert fs.gate_logit.grad is not None
    assert float(fs.gate_logit.grad.abs().min()) > 0
