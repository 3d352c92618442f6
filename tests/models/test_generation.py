import math

import pytest
import torch
from torch import Tensor

from fseed.models.generation import generate, sample_tokens
from fseed.models.rwkv7 import RWKV7, ModelState
from tests.models.checkpoint_samples import SHAPE, sample_weights

END = 0
PROMPTS = [[1, 2, 3, 4, 5], [7], [3, 3, 3, 9, 1, 1, 8, 20, 4], [22, 11], [5, 6, 7, 8]]


@pytest.fixture(scope="module")
def model() -> RWKV7:
    model = RWKV7(SHAPE)
    model.load_state_dict(sample_weights(seed=3))
    return model


@torch.no_grad()
def read(model: RWKV7, prompts: list[list[int]]) -> tuple[ModelState, Tensor]:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    output = model(tokens, lengths=lengths)
    last = output.hidden[torch.arange(len(prompts)), lengths - 1]
    return output.state, model.logits(last)


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def greedy_from_scratch(model: RWKV7, prompt: list[int], *, max_new_tokens: int) -> list[int]:
    """Read the whole text again for every token: no carried state at all."""
    text = list(prompt)
    for _ in range(max_new_tokens):
        _, logits = read(model, [text])
        token = int(logits.argmax())
        if token == END:
            break
        text.append(token)
    return text[len(prompt) :]


def test_greedy_equals_reading_everything_again(model: RWKV7) -> None:
    state, logits = read(model, PROMPTS)
    found = generate(model, state, logits, max_new_tokens=12, end_of_text=END)
    expected = [greedy_from_scratch(model, prompt, max_new_tokens=12) for prompt in PROMPTS]
    assert found == expected
    assert len({tuple(ids) for ids in found}) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_alone_equals_in_batch(model: RWKV7, temperature: float) -> None:
    def run(rows: list[int]) -> list[list[int]]:
        state, logits = read(model, [PROMPTS[i] for i in rows])
        return generate(
            model, state, logits, max_new_tokens=15, end_of_text=END, temperature=temperature,
            top_p=0.9, generators=generators(rows) if temperature > 0 else None,
        )  # fmt: skip

    together = run([0, 1, 2, 3, 4])
    assert [run([i])[0] for i in range(5)] == together
    assert run([4, 2, 0]) == [together[i] for i in (4, 2, 0)]


class Scripted:
    """A model that says what the state's script holds; counts its steps."""

    def __init__(self, scripts: list[list[int]]) -> None:
        self.scripts, self.steps = torch.tensor(scripts), 0

    def __call__(self, tokens: Tensor, *, state: object) -> object:
        assert tokens.shape == (len(self.scripts), 1)
        self.steps += 1
        return type(
            "Output", (), {"hidden": self.scripts[:, self.steps : self.steps + 1], "state": state}
        )

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(hidden, 10).float()


def run_script(scripts: list[list[int]], *, max_new_tokens: int) -> tuple[list[list[int]], int]:
    model = Scripted(scripts)
    first = model.logits(model.scripts[:, 0])
    found = generate(model, None, first, max_new_tokens=max_new_tokens, end_of_text=END)
    return found, model.steps


def test_each_sample_stops_at_its_own_end() -> None:
    # what a finished sample would say later is not read
    scripts = [[1, 2, 0, 9, 9, 9], [0, 9, 9, 9, 9, 9], [4, 5, 6, 7, 0, 9]]
    found, steps = run_script(scripts, max_new_tokens=6)
    assert found == [[1, 2], [], [4, 5, 6, 7]]
    assert steps == 4  # nothing is computed once all have ended


def test_limit_and_no_wasted_step() -> None:
    assert run_script([[1, 2, 3, 4]], max_new_tokens=3) == ([[1, 2, 3]], 2)
    assert run_script([[1, 2, 3, 4]], max_new_tokens=1) == ([[1]], 0)
    assert run_script([[1, 2, 3, 4]], max_new_tokens=0) == ([[]], 0)


def test_samples_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(4000, 4)
    drawn = sample_tokens(
        logits, temperature=1.0, top_p=1.0, generators=generators(list(range(4000)))
    )
    counts = torch.bincount(drawn, minlength=4) / 4000
    # four standard errors of a fraction near 0.4
    assert (counts - torch.tensor([0.1, 0.4, 0.2, 0.3])).abs().max() < 4 * math.sqrt(0.24 / 4000)


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(300, 4)

    def drawn(top_p: float) -> set[int]:
        gens = generators(list(range(300)))
        return set(sample_tokens(logits, temperature=1.0, top_p=top_p, generators=gens).tolist())

    assert drawn(0.1) == {1}
    assert drawn(0.6) == {1, 3}
    assert drawn(0.85) == {1, 2, 3}
    assert drawn(1.0) == {0, 1, 2, 3}


def test_low_temperature_is_greedy(model: RWKV7) -> None:
    state, logits = read(model, PROMPTS)
    greedy = generate(model, state, logits, max_new_tokens=10, end_of_text=END)
    cold = generate(
        model, state, logits, max_new_tokens=10, end_of_text=END, temperature=1e-4,
        generators=generators([0, 1, 2, 3, 4]),
    )  # fmt: skip
    assert cold == greedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"temperature": 1.0}, "needs 1 generators, not 0"),
        ({"temperature": 1.0, "generators": generators([0, 1])}, "needs 1 generators, not 2"),
    ],
)
def test_bad_options(model: RWKV7, options: dict[str, object], message: str) -> None:
    state, logits = read(model, PROMPTS[:1])
    with pytest.raises(ValueError, match=message):
        generate(model, state, logits, max_new_tokens=1, end_of_text=END, **options)
