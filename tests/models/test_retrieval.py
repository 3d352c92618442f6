import pytest
import torch
from torch.nn import functional as F

from fseed.models.retrieval import TEMPERATURE, Projection, contrastive_logits, embed_texts
from tests.models.build import SMALL, build_batch, build_future_seed, build_random_model

LENGTHS = [9, 5, 12, 1]


def build_projection(*, seed: int = 2) -> Projection:
    projection = Projection(SMALL.width).double()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(projection.weight.shape, generator=generator, dtype=torch.float64)
    projection.weight.data.add_(noise, alpha=0.1)
    return projection


def build_texts():
    batch = build_batch(LENGTHS, [1] * len(LENGTHS))
    return batch.prompt, batch.prompt_lengths


def embed(tokens, lengths, *, model=None, projection=None, future_seed=None):
    return embed_texts(
        model or build_random_model(),
        tokens,
        lengths,
        projection=projection or build_projection(),
        future_seed=future_seed,
    )


def frozen_model():
    return build_random_model().requires_grad_(False)


def test_the_projection_starts_as_the_identity():
    assert torch.equal(Projection(5).weight, torch.eye(5))


def test_an_embedding_is_the_normalised_projection_of_the_mean_vector():
    model, projection, (tokens, lengths) = build_random_model(), build_projection(), build_texts()
    hidden = model(tokens, lengths=lengths).hidden
    found = embed(tokens, lengths, model=model, projection=projection)
    for i, length in enumerate(LENGTHS):
        expected = F.normalize(projection(hidden[i, :length].mean(0)), dim=0)
        assert torch.allclose(found[i].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_every_embedding_has_unit_norm(scale):
    projection = build_projection()
    projection.weight.data.mul_(scale)
    found = embed(*build_texts(), projection=projection)
    assert found.dtype == projection.weight.dtype
    assert torch.allclose(found.norm(dim=-1).float(), torch.ones(len(LENGTHS)), rtol=0, atol=1e-6)


def test_autocast_rounds_neither_projection_nor_similarity():
    projection = build_projection().float()
    model = build_random_model().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = embed(*build_texts(), model=model, projection=projection)
        logits = contrastive_logits(found, found)
    assert found.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("options", [None, {}, {"gate": "inputgate", "alpha_init": 1.0}])
def test_pads_and_batch_mates_change_nothing(options):
    future_seed = None if options is None else build_future_seed(**options).double()
    model, (tokens, lengths) = build_random_model(), build_texts()
    together = embed(tokens, lengths, model=model, future_seed=future_seed)
    for i, length in enumerate(LENGTHS):
        alone = embed(
            tokens[i : i + 1, :length], lengths[i : i + 1], model=model, future_seed=future_seed
        )
        assert torch.allclose(together[i], alone[0], rtol=0, atol=1e-12)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_future_seed_changes_the_embedding_and_a_closed_gate_does_not():
    texts = build_texts()
    closed, opened = (build_future_seed(seed_scale=scale).double() for scale in (0.0, 1.0))
    plain = embed(*texts)
    assert torch.equal(embed(*texts, future_seed=closed), plain)
    assert not torch.allclose(embed(*texts, future_seed=opened), plain, atol=1e-4)


def loss_of(found):
    targets = torch.arange(len(found))
    return F.cross_entropy(contrastive_logits(found, found.roll(1, 0)), targets)


def test_without_trained_gates_only_the_projection_gets_a_gradient():
    """Not even a backbone that could be trained is part of the graph."""
    model, projection = build_random_model(), build_projection()
    gates = build_future_seed().double().requires_grad_(False)
    for future_seed in (None, gates):
        found = embed(*build_texts(), model=model, projection=projection, future_seed=future_seed)
        parameters = [projection.weight, *model.parameters()]
        head, *backbone = torch.autograd.grad(loss_of(found), parameters, allow_unused=True)
        assert head is not None
        assert head.abs().sum() > 0
        assert all(gradient is None for gradient in backbone)


@pytest.mark.parametrize("gate", ["scalar", "head", "inputgate"])
def test_gates_that_train_get_a_gradient_through_the_frozen_backbone(gate):
    model, projection = frozen_model(), build_projection()
    future_seed = build_future_seed(gate=gate).double()
    loss_of(
        embed(*build_texts(), model=model, projection=projection, future_seed=future_seed)
    ).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert projection.weight.grad is not None
    for name, parameter in future_seed.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_no_graph_is_kept_while_scoring():
    with torch.no_grad():
        found = embed(*build_texts(), future_seed=build_future_seed().double())
    assert not found.requires_grad


def test_logits_are_cosines_over_the_temperature():
    questions = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), dim=-1)
    contexts = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    half = 0.5**0.5
    expected = torch.tensor([[0.0, 1.0, -1.0], [half, half, -half]]) / TEMPERATURE
    assert torch.allclose(contrastive_logits(questions, contexts), expected)
