"""The hand-written plain operators against the formulas, in float64, every gradient included."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fseed.models.prompt_answer import answer_hidden
from fseed.ops.mix_output import mix_output
from fseed.ops.relu_squared import project_relu_squared
from fseed.ops.token_mix import Weight, norm_shift_project
from fseed.ops.wkv7 import wkv7
from fseed.ops.wkv7_inputs import InputVectors, Projections, wkv7_inputs
from tests.models.build import build_batch, build_future_seed, build_random_model

B, T, H, K = 3, 7, 2, 4
C = H * K
ROUNDING = {"rtol": 1e-11, "atol": 1e-12}


def normal(*size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64).requires_grad_()


def outputs_and_gradients(outputs: tuple[Tensor, ...], leaves: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(99)
    loss = torch.zeros((), dtype=torch.float64)
    for out in outputs:
        loss = loss + (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).sum()
    return [*outputs, *torch.autograd.grad(loss, leaves)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, **ROUNDING)


@pytest.mark.parametrize("lengths", [None, [7, 3, 0]])
@pytest.mark.parametrize("num_mixes", [1, 6])
def test_shift_and_mix(lengths: list[int] | None, num_mixes: int):
    x, previous, mixes = (
        normal(B, T, C, seed=0), normal(B, C, seed=1), normal(num_mixes, C, seed=2),
    )  # fmt: skip
    norm = nn.LayerNorm(C).double()
    true = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)

    def run(backend: str) -> list[Tensor]:
        alone = [()] * len(mixes)
        outs, last = norm_shift_project(x, norm, previous, true, mixes, alone, backend=backend)
        assert len(outs) == num_mixes
        return outputs_and_gradients((*outs, last), [x, previous, mixes])

    assert_same(run("chunked"), run("reference"))


@pytest.mark.parametrize("lengths", [None, [7, 3, 0]])
@pytest.mark.parametrize("sizes", [[[5]], [[5], [C, 3], []], [[], [2, 3, 4]]])
def test_shift_mix_and_project(lengths: list[int] | None, sizes: list[list[int]]):
    x, previous, mixes = (
        normal(B, T, C, seed=0), normal(B, C, seed=1), normal(len(sizes), C, seed=2),
    )  # fmt: skip
    weights = [
        [
            # odd sizes as nn.Linear keeps them
            Weight(normal(size, C, seed=3 + size)) if size % 2
            else Weight(normal(C, size, seed=3 + size), is_linear=False)
            for size in own
        ]
        for own in sizes
    ]  # fmt: skip
    norm = nn.LayerNorm(C).double()
    true = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)
    leaves = [
        x,
        previous,
        mixes,
        norm.weight,
        *(weight.matrix for own in weights for weight in own),
    ]

    def run(backend: str) -> list[Tensor]:
        outs, last = norm_shift_project(x, norm, previous, true, mixes, weights, backend=backend)
        assert len(outs) == sum(max(len(own), 1) for own in sizes)
        return outputs_and_gradients((*outs, last), leaves)

    assert_same(run("chunked"), run("reference"))


def test_projections_under_autocast_are_those_of_the_formula():
    x, previous, mixes = (
        normal(*size, seed=i).detach().float().requires_grad_()
        for i, size in enumerate(((B, T, C), (B, C), (1, C)))
    )
    first, second = (
        normal(size, C, seed=size).detach().float().requires_grad_() for size in (5, 3)
    )
    weights = [[Weight(first), Weight(second)]]
    leaves = [x, previous, mixes, first, second]

    def run(backend: str) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            outs, _ = norm_shift_project(
                x, nn.LayerNorm(C), previous, None, mixes, weights, backend=backend
            )
            out = project_relu_squared(outs[0], first.T, backend=backend)
        assert {part.dtype for part in (*outs, out)} == {torch.bfloat16}
        loss = out.float().sum() + outs[1].float().square().sum()
        return [*outs, out, *torch.autograd.grad(loss, leaves)]

    for actual, expected in zip(run("chunked"), run("reference"), strict=True):
        assert actual.dtype == expected.dtype
        error = (actual.float() - expected.float()).norm() / expected.float().norm()
        assert error < 0.01  # bf16 keeps 8 bits


@pytest.mark.parametrize("is_first", [False, True])
def test_wkv7_inputs(is_first: bool):
    names = ("decay_low", "k", "v", "a_low", "v_low", "v_first")
    read = {name: normal(B, T, C, seed=i) for i, name in enumerate(names)}
    weights = {
        name: normal(1, 1, C, seed=i + 10)
        for i, name in enumerate(("w0", "a0", "k_k", "k_a", "v0"))
    }
    if is_first:
        # layer 0 has none of them
        read["v_low"] = read["v_first"] = weights["v0"] = None  # pyright: ignore[reportArgumentType]
    leaves = [x for x in (*read.values(), *weights.values()) if x is not None]

    def run(backend: str) -> list[Tensor]:
        projections, vectors = Projections(**read), InputVectors(**weights)
        outs = wkv7_inputs(projections, vectors, num_heads=H, backend=backend)
        return outputs_and_gradients(outs, leaves)

    assert_same(run("chunked"), run("reference"))


def test_a_key_of_zeros_has_finite_gradients_as_in_the_formula():
    vector = torch.ones(1, 1, C, dtype=torch.float64)
    vectors = InputVectors(w0=vector, a0=vector, k_k=vector, k_a=vector, v0=None)
    low = normal(B, T, C, seed=0).detach()

    def gradient(backend: str) -> Tensor:
        k = torch.zeros(B, T, C, dtype=torch.float64, requires_grad=True)
        projections = Projections(decay_low=low, k=k, v=low, a_low=low, v_low=None, v_first=None)
        outs = wkv7_inputs(projections, vectors, num_heads=H, backend=backend)
        (found,) = torch.autograd.grad(sum(out.sum() for out in outs), k)
        return found

    torch.testing.assert_close(gradient("chunked"), gradient("reference"), **ROUNDING)


def test_mix_output():
    y, r, k, v = (normal(B, T, H, K, seed=i) for i in range(4))
    g, r_k, norm = normal(B, T, C, seed=4), normal(H, K, seed=5), nn.GroupNorm(H, C, eps=0.3)
    norm = norm.double()
    with torch.no_grad():
        norm.weight.copy_(normal(C, seed=6))
        norm.bias.copy_(normal(C, seed=7))
    leaves = [y, r, k, v, g, r_k, norm.weight, norm.bias]

    def run(backend: str) -> list[Tensor]:
        out = mix_output(y, r=r, k=k, v=v, g=g, r_k=r_k, norm=norm, backend=backend)
        return outputs_and_gradients((out,), leaves)

    assert_same(run("chunked"), run("reference"))


def test_project_relu_squared():
    x, weight = normal(B, T, C, seed=0), normal(5, C, seed=1)
    expected = outputs_and_gradients((F.linear(F.relu(x).square(), weight),), [x, weight])
    for backend in ("chunked", "reference"):
        out = project_relu_squared(x, weight, backend=backend)
        assert_same(outputs_and_gradients((out,), [x, weight]), expected)


@pytest.mark.parametrize("lengths", [[40, 40, 40], [40, 31, 7], [1, 33, 0]])
def test_pads_inside_the_chunks_have_no_gradient_and_change_none(lengths: list[int]):
    leaves = [normal(B, 40, H, K, seed=i) for i in range(6)] + [normal(B, H, K, K, seed=6)]

    def run(backend: str) -> list[Tensor]:
        # as from the key's norm: longer ones let the state grow without a bound
        unit = F.normalize(leaves[4], dim=-1)
        y, final, _ = wkv7(
            *leaves[:4], -unit, unit * torch.sigmoid(leaves[5]), initial_state=leaves[6],
            lengths=torch.tensor(lengths), backend=backend,
        )  # fmt: skip
        return outputs_and_gradients((y, final), leaves)

    actual = run("chunked")
    for x, y in zip(actual, run("reference"), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
    for row, length in enumerate(lengths):
        assert all((x[row, length:] == 0).all() for x in (actual[0], *actual[2:8]))


def scan_inputs(
    num_tokens: int, *, key_size: int = K, value_size: int = K, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Return r, decay_logit, k, v, alpha, beta and an initial state, as a layer gives them."""
    sizes = [key_size] * 3 + [value_size] + [key_size] * 2
    read = [normal(B, num_tokens, H, size, seed=i).detach() for i, size in enumerate(sizes)]
    unit, rate = F.normalize(read[4], dim=-1), torch.sigmoid(read[5])
    state = normal(B, H, value_size, key_size, seed=6).detach()
    inputs = (*read[:4], -unit, unit * rate, state)
    return [x.to(dtype).requires_grad_() for x in inputs]


def scan(inputs: list[Tensor], lengths: list[int] | None, *, backend: str) -> tuple[Tensor, Tensor]:
    true = None if lengths is None else torch.tensor(lengths)
    *read, state = inputs
    y, final_state, _ = wkv7(*read, initial_state=state, lengths=true, backend=backend)
    return y, final_state


@pytest.mark.parametrize("read", ["y", "final_state", "both"])
@pytest.mark.parametrize(("key_size", "value_size"), [(16, 16), (32, 32), (64, 20)])
@pytest.mark.parametrize("lengths", [None, [45, 0, 17]])
def test_every_gradient_of_the_chunks_at_every_head_size(read, key_size, value_size, lengths):
    inputs = scan_inputs(45, key_size=key_size, value_size=value_size)

    def run(backend: str) -> list[Tensor]:
        y, final = scan(inputs, lengths, backend=backend)
        outputs = {"y": (y,), "final_state": (final,), "both": (y, final, y)}[read]
        leaves = inputs if read != "final_state" else [*inputs[1:]]  # r is not in the state
        return outputs_and_gradients(outputs, leaves)

    for x, y in zip(run("chunked"), run("reference"), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [1e4, float("nan"), float("inf")])
def test_no_number_on_a_pad_reaches_a_true_token(value: float):
    inputs, lengths = scan_inputs(40, dtype=torch.float32), [40, 23, 0]
    pads = torch.arange(40) >= torch.tensor(lengths).unsqueeze(1)

    def run(inputs: list[Tensor], on_pads: float) -> list[Tensor]:
        y, final = scan(inputs, lengths, backend="chunked")
        to_y = torch.linspace(-1, 1, y.numel()).view_as(y)
        to_y = to_y.masked_fill(pads[:, :, None, None], on_pads)
        return [y, final, *torch.autograd.grad((y, final), inputs, (to_y, final.detach()))]

    *read, state = (x.detach() for x in inputs)
    broken = [x.masked_fill(pads[:, :, None, None], value) for x in read]
    # through a decay that is no number its own gradient, of a sigmoid, is none
    broken[1] = read[1]
    expected = run(inputs, 0.0)
    actual = run([x.requires_grad_() for x in (*broken, state)], value)
    assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))


def test_a_backward_pass_under_autocast_is_float32():
    inputs = scan_inputs(40, dtype=torch.float32)

    def run(*, autocast: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, final = scan(inputs, [40, 23, 0], backend="chunked")
            return torch.autograd.grad(y.sum() + final.sum(), inputs)

    assert all(
        torch.equal(x, y) for x, y in zip(run(autocast=True), run(autocast=False), strict=True)
    )


def test_the_whole_model_has_the_gradients_of_the_reference():
    batch = build_batch([9, 5, 37], [4, 2, 3])

    def run(backend: str) -> dict[str, Tensor]:
        model = build_random_model()
        model.use_backend(backend)
        fs = build_future_seed(gate="head", detach=False, alpha_init=0.5, head_init=0.5, clip=0.3)
        hidden = answer_hidden(model, batch, future_seed=fs.double())[batch.answer_mask]
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(hidden.shape, generator=generator, dtype=hidden.dtype)
        (hidden * weights).sum().backward()
        named = dict(model.named_parameters()) | dict(fs.named_parameters())
        return {"hidden": hidden} | {n: p.grad for n, p in named.items() if p.grad is not None}

    actual, expected = run("chunked"), run("reference")
    assert actual.keys() == expected.keys()
    for name, x in actual.items():
        torch.testing.assert_close(x, expected[name], rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("backend", ["chunked", "reference"])
def test_bf16_activations_with_float32_weights_keep_the_dtypes_of_the_formula(backend: str):
    low = normal(B, T, C, seed=0).detach().bfloat16()
    vector = torch.ones(1, 1, C)
    vectors = InputVectors(w0=vector, a0=vector, k_k=vector, k_a=vector, v0=vector)
    read = Projections(decay_low=low, k=low, v=low, a_low=low, v_low=low, v_first=low)
    outs = wkv7_inputs(read, vectors, num_heads=H, backend=backend)
    assert {out.dtype for out in outs} == {torch.float32}
