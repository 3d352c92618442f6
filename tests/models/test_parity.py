import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.models.parity import (
    PUBLIC_PROMPT,
    RANDOM_SHAPES,
    TOLERANCE,
    ParityRow,
    build_random_weights,
    compare_checkpoint,
    compare_model,
    compare_published,
    compare_random,
    loop_trace,
    read_prompt,
    read_steps,
)
from fseed.models.rwkv7 import RWKV7, ModelOutput, ModelState
from fseed.models.rwkv_package import RwkvPackage
from fseed.models.shape import RWKV7Shape
from fseed.models.trace import Trace, trace_errors
from fseed.ops import wkv7
from tests.models.checkpoint_samples import (
    SHAPE,
    hugging_face_weights,
    sample_weights,
    write_folder,
)

Weights = dict[str, Tensor]

# rank = width, so that a swapped low-rank pair is caught by its numbers alone
SQUARE = RANDOM_SHAPES[2]
TOKENS = [5, 0, 17, 17, 3, 99, 42, 17, 5]


def build_model(weights: Weights, shape: RWKV7Shape = SQUARE) -> RWKV7:
    model = RWKV7(shape)
    model.load_state_dict(weights, strict=True)
    return model


@pytest.fixture(scope="module")
def weights() -> Weights:
    return sample_weights(SQUARE, seed=1)


@pytest.fixture(scope="module")
def expected(weights: Weights) -> dict[str, Trace]:
    package = RwkvPackage(weights)
    return {"prompt": package.read_prompt(TOKENS), "step": package.read_steps(TOKENS)}


def failures(model: RWKV7, expected: dict[str, Trace]) -> set[str]:
    """Return which comparisons the gate refuses, as mode/tensor."""
    found = {"prompt": read_prompt(model, TOKENS), "step": read_steps(model, TOKENS)}
    return {
        f"{mode}/{name}"
        for mode in found
        for name, error in trace_errors(found[mode], expected[mode]).items()
        if not error <= TOLERANCE
    }


@pytest.mark.slow
def test_random_checkpoints_pass() -> None:
    rows = compare_random()
    # strictly: no allowance for noise is needed here
    assert [row for row in rows if row.beyond_tolerance] == []
    assert len(rows) == 2 * len(RANDOM_SHAPES)
    assert {row.mode for row in rows} == {"prompt", "step"}
    assert {row.oracle.split()[0] for row in rows} == {"rwkv", "float64"}
    assert {len(row.errors) for row in rows} == {4}
    # exactly zero in every tensor would mean that something was compared with itself
    assert all(max(row.errors.values()) > 0 for row in rows)


def test_shapes_cover_what_must_differ() -> None:
    assert {shape.num_layers for shape in RANDOM_SHAPES} >= {2, 3, 12}
    assert {shape.width for shape in RANDOM_SHAPES} >= {64, 96, 128, 256}
    assert {shape.head_size for shape in RANDOM_SHAPES} == {16, 32, 64}
    assert any(shape.ffn_width % 32 for shape in RANDOM_SHAPES)
    assert any(shape.decay_rank % 2 and shape.value_rank % 2 for shape in RANDOM_SHAPES)


def test_one_layer() -> None:
    shape = RWKV7Shape(**(vars(RANDOM_SHAPES[0]) | {"num_layers": 1}))
    weights = sample_weights(shape)
    assert all(row.passed for row in compare_model(build_model(weights, shape), weights, name="1"))


def test_real_checkpoint_and_published_logits(shared_data: Path) -> None:
    path = shared_data / "weights" / "tiny-rwkv-7v0-834K.safetensors"
    logits = shared_data / "weights" / "expected-logits-7v0-834K.bin"
    rows = compare_checkpoint(path) + compare_published(path, logits)
    assert [(row.mode, row.passed) for row in rows] == [("prompt", True), ("step", True)] * 2
    assert rows[0].oracle.startswith("rwkv")


def test_every_form_of_a_checkpoint_passes(tmp_path: Path) -> None:
    weights = sample_weights(SHAPE)
    torch.save(weights, tmp_path / "w.pth")
    write_folder(tmp_path / "hf", hugging_face_weights(weights))
    for path in (tmp_path / "w.pth", tmp_path / "hf"):
        assert all(row.passed for row in compare_checkpoint(path))


def swap_low_rank(weights: Weights, letter: str, *, transposed: bool) -> Weights:
    changed = dict(weights)
    for name in weights:
        if name.endswith(f".att.{letter}1"):
            second = name[:-1] + "2"
            turn: Callable[[Tensor], Tensor] = torch.t if transposed else torch.clone
            changed[name], changed[second] = turn(weights[second]), turn(weights[name])
    return changed


@pytest.mark.parametrize("letter", list("wavg"))
@pytest.mark.parametrize("transposed", [True, False])
def test_swapped_low_rank_pair_fails(
    weights: Weights, expected: dict[str, Trace], letter: str, transposed: bool
) -> None:
    model = build_model(swap_low_rank(weights, letter, transposed=transposed))
    assert failures(build_model(weights), expected) == set()
    # g only reaches the logits, and the states of later layers by way of the residual
    assert failures(model, expected) >= {"prompt/logits", "step/logits", "prompt/wkv", "step/wkv"}


def test_swapped_pair_of_lower_rank_fails_too() -> None:
    shape = RANDOM_SHAPES[1]
    weights = sample_weights(shape)
    swapped = swap_low_rank(weights, "w", transposed=True)  # the shapes of a real checkpoint fit
    rows = compare_model(build_model(swapped, shape), weights, name="swapped")
    assert [row.passed for row in rows] == [False, False]


@pytest.mark.parametrize("layers", ["blocks.1.", pytest.param("", marks=pytest.mark.slow)])
def test_every_parameter_matters(weights: Weights, expected: dict[str, Trace], layers: str) -> None:
    blind = []
    for name, tensor in weights.items():
        if not name.startswith(layers):
            continue
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        model = build_model(weights | {name: tensor + 0.05 * noise})
        if not any(failure.endswith("logits") for failure in failures(model, expected)):
            blind.append(name)
    assert blind == []


def change_output(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[ModelState], ModelState]
) -> None:
    forward = RWKV7.forward

    def changed(self: RWKV7, *args: object, **kwargs: object) -> ModelOutput:
        output = forward(self, *args, **kwargs)
        return ModelOutput(output.hidden, change(output.state))

    monkeypatch.setattr(RWKV7, "forward", changed)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda s: replace(s, wkv=s.wkv.transpose(-1, -2)), {"prompt/wkv", "step/wkv"}),
        (lambda s: replace(s, att_shift=s.ffn_shift), {"prompt/att_shift", "step/att_shift"}),
        (lambda s: replace(s, ffn_shift=0 * s.ffn_shift), {"prompt/ffn_shift", "step/ffn_shift"}),
        (lambda s: replace(s, wkv=s.wkv.roll(1, 0)), {"prompt/wkv", "step/wkv"}),
        (lambda s: replace(s, wkv=s.wkv.bfloat16().float()), {"prompt/wkv", "step/wkv"}),
    ],
    ids=[
        "transposed state",
        "shifts mixed up",
        "no ffn shift",
        "layers mixed up",
        "bfloat16 state",
    ],
)
def test_wrong_state_fails(
    monkeypatch: pytest.MonkeyPatch,
    weights: Weights,
    expected: dict[str, Trace],
    change: Callable[[ModelState], ModelState],
    failed: set[str],
) -> None:
    change_output(monkeypatch, change)
    found = failures(build_model(weights), expected)
    # a wrong state also spoils every later step, which the prompt pass cannot see
    assert found >= failed | {"step/logits"}
    assert "prompt/logits" not in found


def test_wrong_decay_constant_fails(
    monkeypatch: pytest.MonkeyPatch, weights: Weights, expected: dict[str, Trace]
) -> None:
    monkeypatch.setattr(wkv7, "LOG_DECAY_SCALE", -0.6066)
    assert failures(build_model(weights), expected) >= {"prompt/wkv", "step/logits"}


def test_wrong_group_norm_epsilon_fails(weights: Weights, expected: dict[str, Trace]) -> None:
    model = build_model(weights)
    for block in model.blocks:
        block.att.ln_x.eps = 1e-5
    assert failures(model, expected) >= {"prompt/logits", "step/logits"}


def test_nan_fails() -> None:
    errors = {"logits": float("nan"), "wkv": 0.0}
    assert not ParityRow("c", "o", "step", errors).passed
    assert ParityRow("c", "o", "step", {"logits": TOLERANCE}).passed


def test_noise_of_the_oracle_widens_the_limit_up_to_a_bound() -> None:
    def row(error: float, noise: float) -> ParityRow:
        return ParityRow("c", "o", "step", {"logits": error}, {"logits": noise})

    assert row(1e-5, 0.0).passed
    assert not row(1.1e-5, 1e-6).passed
    assert row(3e-5, 1e-5).passed
    assert row(3e-5, 1e-5).beyond_tolerance == ["logits"]
    assert not row(9e-5, 1e-5).passed
    assert not row(1.1e-4, 1.0).passed
    assert not row(float("nan"), float("nan")).passed


def test_random_weights_are_reproducible_and_not_degenerate() -> None:
    first, again = (
        build_random_weights(SHAPE, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(tensor.std() > 0.01 for tensor in first.values())
    trace = loop_trace(first, [1, 2, 3, 4, 5, 6])
    for part in vars(trace).values():
        assert 0.01 < part.abs().max() < 100
    assert not torch.allclose(trace.wkv, trace.wkv.transpose(-1, -2), atol=0.01)


def test_published_logits_of_a_wrong_size(tmp_path: Path) -> None:
    torch.save(sample_weights(SHAPE), tmp_path / "w.pth")
    logits = tmp_path / "logits.bin"
    with pytest.raises(UserError, match="cannot be read"):
        compare_published(tmp_path / "w.pth", logits)
    logits.write_bytes(bytes(10))
    with pytest.raises(UserError, match="10 bytes, but a vocabulary of 23 needs 92"):
        compare_published(tmp_path / "w.pth", logits)


def test_prompt_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    torch.save(sample_weights(SHAPE), tmp_path / "w.pth")
    (tmp_path / "logits.bin").write_bytes(bytes(4 * SHAPE.vocab_size))
    assert max(PUBLIC_PROMPT) >= SHAPE.vocab_size
    with pytest.raises(UserError, match="vocabulary of 23"):
        compare_published(tmp_path / "w.pth", tmp_path / "logits.bin")


def test_wrong_published_logits_fail(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights"
    logits = tmp_path / "logits.bin"
    shutil.copy(source / "expected-logits-7v0-834K.bin", logits)
    logits.chmod(0o600)
    numbers = bytearray(logits.read_bytes())
    numbers[4 * 17 + 2] ^= 0x10  # one bit of one logit
    logits.write_bytes(numbers)
    rows = compare_published(source / "tiny-rwkv-7v0-834K.safetensors", logits)
    assert [row.passed for row in rows] == [False, False]
