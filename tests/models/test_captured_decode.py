"""The ids of a recorded step against the plain loop, on a CPU, with a recorder that calls again."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fseed.models import captured_decode
from fseed.models.captured_decode import (
    LOOK_EVERY_STEPS,
    CapturedDecoder,
    build_decoder,
    cast_weights,
)
from fseed.models.generation import draw_uniform, generate
from fseed.models.rwkv7 import RWKV7, ModelState
from tests.models.build import SMALL, build_random_model
from tests.models.call_again import CallAgain

SHAPE = replace(SMALL, num_layers=2)
END = 0
LENGTHS = [5, 1, 9, 2, 4]


@pytest.fixture(scope="module")
def model() -> RWKV7:
    return build_random_model(SHAPE, dtype=torch.float32)


@pytest.fixture
def recorder() -> CallAgain:
    return CallAgain()


@torch.no_grad()
def read(model: RWKV7, lengths: list[int], *, seed: int = 0) -> tuple[ModelState, Tensor]:
    """Read random prompts; END comes among what follows sooner or later."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, SHAPE.vocab_size, (len(lengths), max(lengths)), generator=generator)
    output = model(tokens, lengths=torch.tensor(lengths))
    last = output.hidden[torch.arange(len(lengths)), torch.tensor(lengths) - 1]
    return output.state, model.logits(last)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


SAMPLED = {"temperature": 1.3, "top_p": 0.9}


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "max_new_tokens", [0, 1, 2, LOOK_EVERY_STEPS, LOOK_EVERY_STEPS + 1, 3 * LOOK_EVERY_STEPS - 1]
)
def test_ids_are_those_of_the_plain_loop(model, recorder, max_new_tokens, options):
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    state, logits = read(model, LENGTHS)

    def run(decoder) -> list[list[int]]:
        drawn = generators(len(LENGTHS)) if options else None
        return decoder(
            state, logits, max_new_tokens=max_new_tokens, end_of_text=END, generators=drawn,
            **options,
        )  # fmt: skip

    expected = run(partial(generate, model))
    assert run(decode) == expected
    # again on the same buffers, after another batch
    other = read(model, LENGTHS, seed=1)
    decode(*other, max_new_tokens=5, end_of_text=END)
    assert run(decode) == expected
    assert recorder.num_captures == 1


def test_samples_of_the_comparison_end_at_different_places(model):
    state, logits = read(model, LENGTHS)
    options = {"max_new_tokens": 60, "end_of_text": END, **SAMPLED}
    ids = generate(model, state, logits, generators=generators(5), **options)
    assert len({len(one) for one in ids}) > 2
    assert all(END not in one for one in ids)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_alone_equals_in_batch(model, recorder, temperature):
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)

    def run(rows: list[int]) -> list[list[int]]:
        state, logits = read(model, LENGTHS)
        state = ModelState(state.att_shift[:, rows], state.wkv[:, rows], state.ffn_shift[:, rows])
        drawn = [torch.Generator().manual_seed(row) for row in rows]
        return decode(
            state, logits[rows], max_new_tokens=10, end_of_text=END, temperature=temperature,
            generators=drawn if temperature > 0 else None,
        )  # fmt: skip

    together = run([0, 1, 2, 3, 4])
    assert [run([i])[0] for i in range(5)] == together
    assert run([4, 2, 0]) == [together[i] for i in (4, 2, 0)]
    assert recorder.num_captures == 3  # one per batch size


class EndingModel(torch.nn.Module):
    """Says END after as many tokens as its state tells, and other ids before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = torch.nn.Embedding(1, 1)

    def forward(self, tokens: Tensor, *, state: ModelState) -> SimpleNamespace:
        left = state.att_shift - 1
        return SimpleNamespace(
            hidden=left[0].unsqueeze(1), state=ModelState(left, state.wkv, state.ffn_shift)
        )

    def logits(self, hidden: Tensor) -> Tensor:
        said = (hidden.squeeze(-1).abs() + 2) * (hidden.squeeze(-1) != 0)
        return torch.nn.functional.one_hot(said.long(), 100).float()


def run_endings(recorder: CallAgain, endings: list[int], *, max_new_tokens: int) -> list[list[int]]:
    model = EndingModel()
    left = torch.tensor(endings, dtype=torch.float32).view(1, -1, 1)
    state = ModelState(left, torch.zeros(1), torch.zeros(1))
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    options = {"max_new_tokens": max_new_tokens, "end_of_text": END}
    ids = decode(state, model.logits(left[0]), **options)
    assert ids == generate(model, state, model.logits(left[0]), **options)
    return ids


@pytest.mark.parametrize(
    ("endings", "num_replays"),
    [
        ([0, 0], LOOK_EVERY_STEPS - 1),  # nobody looks before
        ([3, LOOK_EVERY_STEPS - 1], LOOK_EVERY_STEPS - 1),
        ([LOOK_EVERY_STEPS, 0], 2 * LOOK_EVERY_STEPS - 1),
        ([2, 90], 3 * LOOK_EVERY_STEPS + 2),
    ],
)
def test_steps_are_done_until_all_are_seen_to_have_ended(recorder, endings, num_replays):
    longest = 3 * LOOK_EVERY_STEPS + 3
    ids = run_endings(recorder, endings, max_new_tokens=longest)
    assert [len(one) for one in ids] == [min(end, longest) for end in endings]
    assert recorder.num_replays == num_replays


def test_one_token_needs_no_step(recorder):
    assert run_endings(recorder, [0, 5], max_new_tokens=1) == [[], [7]]
    assert recorder.num_replays == 0


def test_looks_are_the_only_times_that_the_host_reads(model, recorder, monkeypatch):
    """Count what reads a tensor into Python: on a device each of them waits."""
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    state, logits = read(model, LENGTHS)
    reads: list[str] = []
    names = ("item", "__bool__", "__int__", "__float__", "tolist", "cpu", "numpy", "nonzero")
    for name in names:
        original = getattr(Tensor, name)

        def counted(self, *args, original=original, name=name):
            reads.append(name)
            return original(self, *args)

        monkeypatch.setattr(Tensor, name, counted)
    decode(
        state, logits, max_new_tokens=40, end_of_text=-1, generators=generators(5), **SAMPLED
    )  # fmt: skip
    assert reads == ["__bool__", "__bool__", "tolist"]


def test_numbers_of_a_generator_are_the_same_one_by_one_and_together():
    together = draw_uniform(generators(3), count=300)
    drawn = generators(3)
    one_by_one = [[float(torch.rand((), generator=g, dtype=torch.float64)) for g in drawn]
                  for _ in range(300)]  # fmt: skip
    assert together.T.tolist() == one_by_one


class CountedCasts(TorchDispatchMode):
    """Counts what is cast to bf16, by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_cast = func is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16
        if is_cast and isinstance(args[0], torch.nn.Parameter):
            self.shapes.append(tuple(args[0].shape))
        return result


def test_under_autocast_weights_are_cast_once_and_to_the_same_numbers(model):
    state, logits = read(model, LENGTHS)
    options = {"max_new_tokens": 4, "end_of_text": -1}
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with CountedCasts() as plain:
            expected = generate(model, state, logits.bfloat16(), **options)
        # what is captured would be cast with every replay
        decode = CapturedDecoder(model, new_recorder=CallAgain)
        with CountedCasts() as captured:
            assert decode(state, logits.bfloat16(), **options) == expected
        num_weights = len(cast_weights(model))
    assert len(plain.shapes) == 3 * num_weights
    assert captured.shapes == []
    assert cast_weights(model) == {}


def test_under_autocast_a_step_gives_the_same_logits_and_state(model, recorder):
    state, logits = read(model, LENGTHS)
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        step = decode._start(state, logits.bfloat16())
        step.replay()
        output = model(logits.bfloat16().argmax(-1, keepdim=True), state=state)
        assert torch.equal(step.logits, model.logits(output.hidden[:, 0]))
    assert torch.equal(step.state.wkv, output.state.wkv)
    assert torch.equal(step.state.att_shift, output.state.att_shift)
    assert torch.equal(step.state.ffn_shift, output.state.ffn_shift)


def test_another_autocast_is_another_step(model, recorder):
    state, logits = read(model, LENGTHS)
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    options = {"max_new_tokens": 4, "end_of_text": -1}
    assert decode(state, logits, **options) == generate(model, state, logits, **options)
    with torch.autocast("cpu", torch.bfloat16):
        given = (state, logits.bfloat16())
        assert decode(*given, **options) == generate(model, *given, **options)
    assert recorder.num_captures == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_change_between_batches_are_those_that_decode(dtype, recorder):
    model = build_random_model(SHAPE, dtype=torch.float32)
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    options = {"max_new_tokens": 20, "end_of_text": -1}
    said = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            state, logits = read(model, LENGTHS)
            said.append(decode(state, logits, **options))
            assert said[-1] == generate(model, state, logits, **options)
        with torch.no_grad():  # as an optimiser step does, which no version tells under a graph
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    assert said[0] != said[1]
    assert recorder.num_captures == 1


def test_what_is_given_is_not_written(model, recorder):
    state, logits = read(model, LENGTHS)
    kept = [x.clone() for x in (logits, state.att_shift, state.wkv, state.ffn_shift)]
    CapturedDecoder(model, new_recorder=lambda: recorder)(
        state, logits, max_new_tokens=9, end_of_text=END
    )
    given = (logits, state.att_shift, state.wkv, state.ffn_shift)
    assert all(torch.equal(one, other) for one, other in zip(given, kept, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"temperature": 1.0}, "needs 5 generators, not 0"),
    ],
)
def test_bad_options(model, recorder, options, message):
    decode = CapturedDecoder(model, new_recorder=lambda: recorder)
    with pytest.raises(ValueError, match=message):
        decode(*read(model, LENGTHS), max_new_tokens=1, end_of_text=END, **options)
    assert recorder.num_captures == 0


@pytest.mark.parametrize(
    ("device", "backend", "is_captured"),
    [("cpu", "chunked", False), ("cpu", "triton", False), ("cuda", "chunked", False),
     ("cuda", "triton", True), ("cuda", "cuda", True)],
)  # fmt: skip
def test_steps_are_captured_on_the_kernels_of_a_gpu(device, backend, is_captured):
    weight = SimpleNamespace(device=torch.device(device))
    model = SimpleNamespace(emb=SimpleNamespace(weight=weight), backend=backend)
    assert isinstance(build_decoder(model), CapturedDecoder) == is_captured


def test_the_plain_loop_decodes_elsewhere(model):
    assert captured_decode.LOOK_EVERY_STEPS > 1
    given = read(model, LENGTHS)
    options = {"max_new_tokens": 12, "end_of_text": END}
    assert build_decoder(model)(*given, **options) == generate(model, *given, **options)
