"""Decoding with real CUDA graphs on the kernels, in bf16, as runs do: the ids of the plain loop."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from fseed.models import captured_decode
from fseed.models.captured_decode import CapturedDecoder, build_decoder
from fseed.models.generation import choose_tokens, generate
from fseed.models.initialization import initialize
from fseed.models.prompt_answer import read_prompt
from fseed.models.rwkv7 import RWKV7, ModelState
from fseed.models.shape import RWKV7Shape
from tests.models.build import build_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = RWKV7Shape(
    num_layers=3, width=256, head_size=64, ffn_width=512, decay_rank=32, in_context_rank=32,
    value_rank=32, gate_rank=32, vocab_size=512,
)  # fmt: skip
END = 7
LENGTHS = [40, 3, 17, 1, 64, 30, 9]
SAMPLED = {"temperature": 0.8, "top_p": 0.95}
each_backend = pytest.mark.parametrize("backend", ["triton", "cuda"])
each_choice = pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])


def build(backend: str) -> RWKV7:
    model = initialize(RWKV7(SHAPE), generator=torch.Generator().manual_seed(0)).cuda()
    generator = torch.Generator(device="cuda").manual_seed(1)
    for parameter in model.parameters():  # the official start has zero outputs
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, device="cuda")
    model.use_backend(backend)
    return model


@torch.no_grad()
def read(model: RWKV7, lengths: list[int], *, seed: int = 0) -> tuple[ModelState, Tensor]:
    batch = build_batch(lengths, [1] * len(lengths), seed=seed, vocab_size=512)
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        last, state = read_prompt(model, batch.to(torch.device("cuda")), future_seed=None)
        return state, model.logits(last)


def run(
    decoder: Callable[..., list[list[int]]], given: tuple[ModelState, Tensor], **options
) -> list[list[int]]:
    generators = None
    if options.get("temperature", 0.0) > 0:
        generators = [torch.Generator().manual_seed(i) for i in range(len(given[1]))]
    options = {"max_new_tokens": 50, "end_of_text": END} | options
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return decoder(*given, generators=generators, **options)


@each_backend
@each_choice
def test_ids_are_those_of_the_plain_loop(backend: str, options: dict[str, float]):
    model = build(backend)
    decoder = build_decoder(model)
    assert isinstance(decoder, CapturedDecoder)
    for seed in range(3):
        given = read(model, LENGTHS, seed=seed)
        expected = run(partial(generate, model), given, **options)
        assert run(decoder, given, **options) == expected
        assert len({tuple(ids) for ids in expected}) > 3
    said = run(partial(generate, model), given, end_of_text=-1)
    for end_of_text, max_new_tokens in ((-1, 33), (-1, 1), (said[0][0], 20), (said[1][18], 20)):
        options = options | {"end_of_text": end_of_text, "max_new_tokens": max_new_tokens}
        assert run(decoder, given, **options) == run(partial(generate, model), given, **options)


@each_backend
def test_batches_of_two_sizes_take_turns(backend: str):
    model = build(backend)
    decoder = build_decoder(model)
    for seed, lengths in enumerate((LENGTHS, LENGTHS[:4], LENGTHS, [5])):
        given = read(model, lengths, seed=seed)
        for options in ({}, SAMPLED):
            expected = run(partial(generate, model), given, **options)
            assert run(decoder, given, **options) == expected


@each_backend
@each_choice
def test_no_token_waits_for_the_device(backend: str, options: dict[str, float], monkeypatch):
    model = build(backend)
    given = read(model, LENGTHS)
    expected = run(partial(generate, model), given, **options)
    decode_tokens = captured_decode.decode_tokens

    def watched(*arguments, **into) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            decode_tokens(*arguments, **into)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(captured_decode, "decode_tokens", watched)
    assert run(CapturedDecoder(model), given, **options) == expected


def test_new_weights_need_a_new_decoder_and_get_the_memory_of_the_old_one():
    model = build("cuda")
    given = read(model, LENGTHS)
    held = []
    for _ in range(3):
        with torch.no_grad():
            model.head.weight.mul_(-1)
        decoder = build_decoder(model)
        assert run(decoder, given) == run(partial(generate, model), given)
        del decoder
        held.append(torch.cuda.memory_allocated())
    assert held[2] <= held[1]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_sampling_is_deterministic_and_needs_no_more_than_a_few_copies(batch_size: int):
    generator = torch.Generator().manual_seed(batch_size)
    logits = 3 * torch.randn(batch_size, 65536, generator=generator)
    uniform = torch.rand(batch_size, dtype=torch.float64, generator=generator)
    expected = choose_tokens(logits, uniform, **SAMPLED)
    given = (logits.cuda(), uniform.cuda())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.use_deterministic_algorithms(mode=True)  # as Lightning sets it for a run
    try:
        found = [choose_tokens(*given, **SAMPLED) for _ in range(20)]
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert all(torch.equal(ids, found[0]) for ids in found)
    assert torch.equal(found[0].cpu(), expected)
    assert torch.cuda.max_memory_allocated() - before < 20 * 8 * logits.numel()
