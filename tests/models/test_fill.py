import pytest
import torch

from fseed.models.fill import MaskEmbedding, fill_hidden
from fseed.models.prompt_answer import PromptAnswer
from tests.models.build import SMALL, build_batch, build_future_seed, build_random_model

LENGTHS = [9, 5, 12]
PLACES = [[2, 7], [4], [0, 3, 11]]


def build_fill_batch(lengths=LENGTHS, places=PLACES, *, seed=0) -> PromptAnswer:
    batch = build_batch(lengths, [len(row) for row in places], seed=seed)
    padded = torch.zeros_like(batch.answer)
    for i, row in enumerate(places):
        padded[i, : len(row)] = torch.tensor(row)
    return batch._replace(mask_positions=padded)


def build_embedding(*, seed: int = 1) -> MaskEmbedding:
    embedding = MaskEmbedding(SMALL.width).double()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(SMALL.width, generator=generator, dtype=torch.float64)
    embedding.weight.data.copy_(noise)
    return embedding


def read(batch, *, embedding=None, future_seed=None, model=None):
    return fill_hidden(
        model or build_random_model(),
        batch,
        mask_embedding=embedding or build_embedding(),
        future_seed=future_seed,
    )


def first_inputs(embedding):
    """Return what enters the first layer norm, [B, T, C]."""
    model, seen = build_random_model(), []
    model.layers[0].ln0.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    read(build_fill_batch(), embedding=embedding, model=model)
    return seen[0]


def test_the_mask_embedding_starts_at_zero():
    assert torch.equal(MaskEmbedding(4).weight, torch.zeros(4))


def test_the_mask_embedding_changes_the_input_of_masked_positions_alone():
    """Padded places point at position 0, which must not become a masked one."""
    embedding = build_embedding()
    without, with_it = first_inputs(MaskEmbedding(SMALL.width).double()), first_inputs(embedding)
    for i, (length, places) in enumerate(zip(LENGTHS, PLACES, strict=True)):
        for position in range(length):
            added = embedding.weight if position in places else torch.zeros_like(embedding.weight)
            assert torch.equal(with_it[i, position], without[i, position] + added)


@pytest.mark.parametrize("options", [None, {}, {"gate": "inputgate", "alpha_init": 1.0}])
def test_pads_and_batch_mates_change_nothing(options):
    future_seed = None if options is None else build_future_seed(**options).double()
    model, whole = build_random_model(), build_fill_batch()
    together = read(whole, future_seed=future_seed, model=model)
    for i, (length, places) in enumerate(zip(LENGTHS, PLACES, strict=True)):
        alone = PromptAnswer(
            whole.prompt[i : i + 1, :length], whole.prompt_lengths[i : i + 1],
            whole.answer[i : i + 1, : len(places)], whole.answer_lengths[i : i + 1],
            torch.tensor([places]),
        )  # fmt: skip
        hidden = read(alone, future_seed=future_seed, model=model)
        assert torch.allclose(together[i, : len(places)], hidden[0], rtol=0, atol=1e-12)


def test_without_future_seed_it_is_one_plain_pass():
    model, batch = build_random_model(), build_fill_batch()
    plain = model(batch.prompt, lengths=batch.prompt_lengths).hidden
    found = read(batch, embedding=MaskEmbedding(SMALL.width).double(), model=model)
    for i, places in enumerate(PLACES):
        assert torch.equal(found[i, : len(places)], plain[i, places])


def test_a_closed_gate_is_the_baseline_bit_for_bit():
    batch = build_fill_batch()
    closed = build_future_seed(seed_scale=0.0).double()
    assert torch.equal(read(batch, future_seed=closed), read(batch))


@pytest.mark.parametrize("is_seeded", [False, True])
def test_only_future_seed_lets_a_masked_position_see_what_stands_behind_it(is_seeded):
    future_seed = build_future_seed(alpha_init=2.0).double() if is_seeded else None
    batch = build_fill_batch([8], [[3, 5]])
    other = batch._replace(prompt=batch.prompt.clone())
    other.prompt[0, 7] = (other.prompt[0, 7] + 1) % SMALL.vocab_size
    assert not torch.equal(batch.prompt, other.prompt)
    left, right = (read(b, future_seed=future_seed) for b in (batch, other))
    assert torch.equal(left, right) != is_seeded


def test_gradient_of_the_mask_embedding():
    model, batch = build_random_model(), build_fill_batch()
    future_seed = build_future_seed(detach=False).double()
    weight = build_embedding().weight.detach().requires_grad_()
    direction = torch.randn(SMALL.width, generator=torch.Generator().manual_seed(3)).double()

    def loss(value):
        embedding = MaskEmbedding(SMALL.width).double()
        embedding.weight = torch.nn.Parameter(value)
        hidden = read(batch, embedding=embedding, future_seed=future_seed, model=model)
        return (hidden[batch.answer_mask].square().sum(), embedding.weight)

    value, parameter = loss(weight)
    value.backward()
    assert parameter.grad is not None
    step = 1e-5
    with torch.no_grad():
        up, down = (loss(weight + sign * step * direction)[0] for sign in (1, -1))
    numeric = (up - down) / (2 * step)
    assert torch.allclose(parameter.grad @ direction, numeric, rtol=1e-7)


def test_a_batch_without_masked_positions_is_an_error():
    with pytest.raises(ValueError, match="no masked positions"):
        read(build_batch([4, 3], [1, 1]))
