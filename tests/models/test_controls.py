"""The controls of mechanism section 4 in the model: another state in the place of an arm's own."""

import os
import subprocess
import sys

import pytest
import torch

from fseed.models.controls import random_state_like
from fseed.models.prompt_answer import PromptAnswer, answer_hidden, read_prompt
from fseed.ops.carried_state import materialize
from tests.models.build import SMALL, build_future_seed, build_random_model
from tests.models.control_samples import (
    BATCH,
    CONTROLS,
    GATES,
    KEYS,
    build_control,
    random_states,
    rms,
)

# closed gates


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "options",
    [
        {"seed_scale": 0.0},
        {"alpha_init": -float("inf")},
        {"gate": "raw", "alpha_init": 0.0},
        {"norm": "none", "seed_scale": 0.0, "detach": False, "clip": 0.0},
        {"lstart": SMALL.num_layers},
    ],
)
def test_a_closed_gate_is_the_baseline_bit_for_bit(control, options):
    model = build_random_model(dtype=torch.float32)
    fs = build_control(control, **options).float()
    last, state = read_prompt(model, BATCH, future_seed=fs)
    last_plain, state_plain = read_prompt(model, BATCH, future_seed=None)
    assert torch.equal(last, last_plain)
    for name in ("wkv", "att_shift", "ffn_shift"):
        assert torch.equal(getattr(state, name), getattr(state_plain, name))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_closed_gate_trains_like_the_baseline_bit_for_bit(control):
    gradients = []
    for fs in (None, build_control(control, seed_scale=0.0).float()):
        model = build_random_model(dtype=torch.float32)
        hidden = answer_hidden(model, BATCH, future_seed=fs)[BATCH.answer_mask]
        model.logits(hidden).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# what holds for all of them


@pytest.mark.parametrize("control", CONTROLS)
def test_an_open_gate_changes_the_positions_of_the_arm_only(control):
    model = build_random_model()
    states = [
        read_prompt(model, BATCH, future_seed=fs)[1].wkv
        for fs in (
            None,
            build_future_seed(lstart=2, alpha_init=3.0).double(),
            build_control(control, lstart=2, alpha_init=3.0),
        )
    ]
    plain, arm, controlled = states
    assert torch.equal(controlled[:2], plain[:2])
    for layer in (2, 3):
        assert not torch.allclose(controlled[layer], plain[layer])
        assert not torch.allclose(controlled[layer], arm[layer])


@pytest.mark.parametrize("control", ["random_state", "learned_state", "same_layer"])
@pytest.mark.parametrize("gate", GATES)
def test_padding_and_batch_mates_change_nothing(control, gate):
    model, fs = build_random_model(), build_control(control, gate=gate, alpha_init=0.5)
    together = answer_hidden(model, BATCH, future_seed=fs)
    for i, (p, a) in enumerate(zip(BATCH.prompt_lengths, BATCH.answer_lengths, strict=True)):
        alone = PromptAnswer(
            BATCH.prompt[i : i + 1, :p], p.view(1), BATCH.answer[i : i + 1, :a], a.view(1),
            noise_keys=KEYS[i : i + 1],
        )  # fmt: skip
        torch.testing.assert_close(
            together[i : i + 1, :a], answer_hidden(model, alone, future_seed=fs)
        )


@pytest.mark.parametrize("control", ["random_state", "learned_state", "same_layer"])
def test_norm_gate_and_clip_are_those_of_the_arm(control):
    fs = build_control(control, alpha_init=0.7, clip=0.0).requires_grad_(False)
    arguments = {"layer": 2, "x_last": torch.zeros(3, SMALL.width).double(), "noise_keys": KEYS}
    carried = materialize(fs.carry(random_states(), **arguments))
    expected = torch.full((3, 2), 0.7, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(rms(carried), expected, rtol=1e-6, atol=0)
    clipped = build_control(control, alpha_init=0.7, clip=0.25).requires_grad_(False)
    bound = materialize(clipped.carry(random_states(), **arguments)).abs().max()
    assert float(bound) == 0.25


# random_state


def test_random_state_has_the_rms_of_the_state_it_replaces():
    state = random_states()
    noise = random_state_like(state, keys=KEYS, layer=2)
    torch.testing.assert_close(rms(noise), rms(state), rtol=1e-6, atol=0)
    # nothing else of the state is left in it
    cosine = (noise * state).sum((-2, -1)) / (256 * rms(noise) * rms(state))
    assert cosine.abs().max() < 0.25


def test_random_state_of_a_zero_state_is_zero():
    zeros = torch.zeros(3, 2, 16, 16)
    assert torch.equal(random_state_like(zeros, keys=KEYS, layer=1), zeros)


def test_random_state_is_a_function_of_key_and_layer_alone():
    state = random_states().float()
    noise = random_state_like(state, keys=KEYS, layer=2)
    assert torch.equal(noise, random_state_like(state, keys=KEYS, layer=2))
    swapped = random_state_like(state[[2, 0]], keys=(33, 11), layer=2)
    assert torch.equal(swapped, noise[[2, 0]])
    assert not torch.allclose(noise, random_state_like(state, keys=KEYS, layer=3))
    other = random_state_like(state, keys=(11, 22, 34), layer=2)
    assert torch.equal(other[:2], noise[:2])
    assert not torch.allclose(other[2], noise[2])


def test_random_state_passes_no_gradient_to_the_state():
    state = random_states().requires_grad_()
    assert not random_state_like(state, keys=KEYS, layer=2).requires_grad


@pytest.mark.parametrize("keys", [None, (1, 2)])
def test_random_state_without_a_key_a_sample_is_refused(keys):
    with pytest.raises(ValueError, match=r"a noise key a sample \(3\)"):
        random_state_like(random_states(), keys=keys, layer=1)


# kernels: what the fused load makes of the controls, in Triton's interpreter

PROGRAM = """
import torch
from fseed.models.prompt_answer import answer_hidden
from tests.models.build import build_random_model
from tests.models.control_samples import BATCH, CONTROLS, build_control

def gradients(backend, control, **options):
    model = build_random_model().float()
    model.use_backend(backend)
    fs = build_control(control, gate="head", detach=False, head_init=0.5, clip=0.3, **options)
    fs = fs.float()
    hidden = answer_hidden(model, BATCH, future_seed=fs)
    generator = torch.Generator().manual_seed(1)
    (hidden * torch.randn(hidden.shape, generator=generator)).sum().backward()
    named = dict(model.named_parameters()) | dict(fs.named_parameters())
    return {"hidden": hidden} | {n: p.grad for n, p in named.items() if p.grad is not None}

for control in CONTROLS:
    plain, fused = (gradients(b, control, alpha_init=0.5) for b in ("chunked", "triton"))
    assert plain.keys() == fused.keys()
    assert control != "learned_state" or "learned_state.weight" in plain
    for name, expected in plain.items():
        error = float((fused[name] - expected).norm() / expected.norm().clamp_min(1e-12))
        assert error < 2e-5, (control, name, error)
    print(control, len(plain))
"""


@pytest.mark.slow
def test_kernels_equal_the_plain_backend_in_every_gradient():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(CONTROLS)
