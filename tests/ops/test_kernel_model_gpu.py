"""The whole model on the kernels of a GPU: against float32, compiled, captured, operator checks."""

import pytest
import torch
from torch import Tensor

from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.initialization import initialize
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed_kernels.reference import build_problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = RWKV7Shape(
    num_layers=3, width=256, head_size=64, ffn_width=512, decay_rank=32, in_context_rank=32,
    value_rank=32, gate_rank=32, vocab_size=256,
)  # fmt: skip
TOKENS = torch.randint(1, 256, (4, 200), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([200, 131, 64, 7])


def build(backend: str) -> tuple[RWKV7, FutureSeed]:
    model = initialize(RWKV7(SHAPE), generator=torch.Generator().manual_seed(0)).cuda()
    generator = torch.Generator(device="cuda").manual_seed(1)
    for parameter in model.parameters():  # the official start has zero outputs: nothing to compare
        noise = torch.randn(parameter.shape, generator=generator, device="cuda")
        parameter.data += 0.05 * noise
    model.use_backend(backend)
    options = FutureSeedOptions(gate="head", detach=False, alpha_init=1.0, head_init=1.0)
    fs = FutureSeed(options, num_layers=3, num_heads=4, width=256).cuda()
    return model, fs


def run(model: RWKV7, fs: FutureSeed, tokens: Tensor, lengths: Tensor) -> Tensor:
    return model(tokens, lengths=lengths, future_seed=fs).hidden


def outputs_and_gradients(function, model: RWKV7, fs: FutureSeed) -> dict[str, Tensor]:
    hidden = function(model, fs, TOKENS.cuda(), LENGTHS.cuda())
    true = torch.arange(200).unsqueeze(0) < LENGTHS.unsqueeze(1)
    hidden = hidden.float() * true.cuda().unsqueeze(-1)
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2)).cuda()
    parameters = dict(model.named_parameters()) | dict(fs.named_parameters())
    gradients = torch.autograd.grad(
        (hidden * weights).sum(), list(parameters.values()), allow_unused=True
    )
    found = dict(zip(parameters, gradients, strict=True))
    return {"hidden": hidden.detach()} | {k: g for k, g in found.items() if g is not None}


def deviations(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    return {
        name: float((actual[name] - value).norm() / value.norm().clamp_min(1e-12))
        for name, value in expected.items()
    }


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_bf16_training_stays_as_near_to_float32_as_the_plain_backend(backend: str):
    expected = outputs_and_gradients(run, *build("chunked"))
    with torch.autocast("cuda", torch.bfloat16):
        plain = deviations(outputs_and_gradients(run, *build("chunked")), expected)
        fused = deviations(outputs_and_gradients(run, *build(backend)), expected)
    assert len(fused) > 80
    worse = {n: (f, plain[n]) for n, f in fused.items() if not f <= 2 * plain[n] + 1e-2}
    assert worse == {}


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_layers_computed_again_have_the_same_gradients(backend: str):
    model, fs = build(backend)
    with torch.autocast("cuda", torch.bfloat16):
        kept = outputs_and_gradients(run, model, fs)
        model.recompute_layers()
        again = outputs_and_gradients(run, model, fs)
    assert kept.keys() == again.keys()
    assert [name for name, value in kept.items() if not torch.equal(again[name], value)] == []


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_compilation_has_no_break_and_changes_no_digit_of_a_kernel(backend: str):
    model, fs = build(backend)
    with torch.autocast("cuda", torch.bfloat16):
        eager = outputs_and_gradients(run, model, fs)
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        found = outputs_and_gradients(compiled, model, fs)
    assert {n: e for n, e in deviations(found, eager).items() if e > 1e-2} == {}


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_a_captured_step_replays_bit_for_bit(backend: str):
    model, fs = build(backend)
    tokens, lengths = TOKENS.cuda(), LENGTHS.cuda()

    def step() -> Tensor:
        model.zero_grad(set_to_none=False)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            hidden = run(model, fs, tokens, lengths)
        hidden.float().square().sum().backward()
        return hidden

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        hidden = step()
    weight = model.layers[1].att.key.weight
    graph.replay()
    first, gradient = hidden.clone(), weight.grad.clone()
    tokens.fill_(3)
    graph.replay()
    assert not torch.equal(hidden, first)
    tokens.copy_(TOKENS)
    graph.replay()
    assert torch.equal(hidden, first)
    assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_the_operators_keep_the_rules_of_custom_operators(backend: str):
    problem = build_problem(
        t=65, dtype=torch.bfloat16, device="cuda", lengths=[65, 40], with_carried=True
    )
    carried = problem.carried
    assert carried is not None
    tensors = [x.requires_grad_() for x in problem.inputs.tensors]
    start = (problem.initial_state, carried.state, carried.squares, carried.gate, carried.clip)
    arguments = (*tensors, *start, problem.lengths, backend, "bf16")
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
    for operator in (torch.ops.fseed.wkv7_forward, torch.ops.fseed.wkv7_inference):
        torch.library.opcheck(operator.default, arguments, test_utils=utilities)


def test_decoding_token_by_token_equals_one_pass():
    model, _ = build("cuda")
    tokens = TOKENS[:, :40].cuda()
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        whole = model(tokens)
        state, hidden = model.zero_state(4), []
        for t in range(40):
            output = model(tokens[:, t : t + 1], state=state)
            state = output.state
            hidden.append(output.hidden)
    error = (torch.cat(hidden, 1) - whole.hidden).norm() / whole.hidden.norm()
    assert error < 1e-2
    error = (state.wkv - whole.state.wkv).norm() / whole.state.wkv.norm()
    assert error < 1e-2
