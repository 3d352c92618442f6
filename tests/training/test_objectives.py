import pytest
import torch
from torch.nn import functional as F

from fseed.models.fill import MaskEmbedding, fill_hidden
from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import answer_hidden
from fseed.models.retrieval import Projection, contrastive_logits, embed_texts
from fseed.tasks.base import Objective
from fseed.training.objectives import Learner
from tests.models.build import SMALL, build_batch, build_future_seed, build_random_model

LENGTHS = [6, 9, 4]
ANSWERS = [2, 3, 1]


def build_learner(objective: Objective, *, future_seed: FutureSeed | None = None) -> Learner:
    return Learner(build_random_model(), future_seed, objective=objective).double()


def build_batch_of(objective: Objective):
    batch = build_batch(LENGTHS, ANSWERS)
    if objective is Objective.fill:
        return batch._replace(mask_positions=torch.tensor([[1, 4, 0], [0, 3, 8], [2, 0, 0]]))
    return batch


def seeded() -> FutureSeed:
    return build_future_seed(alpha_init=1.0).double()


@pytest.mark.parametrize("objective", [Objective.answer, Objective.fill])
def test_the_loss_is_the_mean_over_the_true_answer_tokens(objective):
    learner, batch = build_learner(objective, future_seed=seeded()), build_batch_of(objective)
    logits = learner.model.logits(learner.hidden(batch))
    losses = [
        F.cross_entropy(logits[i, place], batch.answer[i, place])
        for i, length in enumerate(ANSWERS)
        for place in range(length)
    ]
    assert torch.allclose(learner.loss(batch), torch.stack(losses).mean(), rtol=1e-12)


def test_the_loss_of_retrieval_contrasts_the_texts_of_the_batch():
    learner = build_learner(Objective.retrieval, future_seed=seeded())
    batch = build_batch_of(Objective.retrieval)
    questions, contexts = learner.embed(batch)
    losses = [
        -F.log_softmax(contrastive_logits(question[None], contexts)[0], dim=0)[i]
        for i, question in enumerate(questions)
    ]
    assert torch.allclose(learner.loss(batch), torch.stack(losses).mean(), rtol=1e-5)


def test_questions_and_contexts_share_projection_and_gates():
    learner = build_learner(Objective.retrieval, future_seed=seeded())
    batch = build_batch_of(Objective.retrieval)
    swapped = batch._replace(
        prompt=batch.answer, prompt_lengths=batch.answer_lengths,
        answer=batch.prompt, answer_lengths=batch.prompt_lengths,
    )  # fmt: skip
    questions, contexts = learner.embed(batch)
    other_questions, other_contexts = learner.embed(swapped)
    assert torch.equal(questions, other_contexts)
    assert torch.equal(contexts, other_questions)
    head = learner.task_head
    assert isinstance(head, Projection)
    direct = embed_texts(
        learner.model, batch.prompt, batch.prompt_lengths,
        projection=head, future_seed=learner.future_seed,
    )  # fmt: skip
    assert torch.equal(contexts, direct)


@pytest.mark.parametrize(
    ("objective", "head", "is_frozen"),
    [
        (Objective.answer, None, False),
        (Objective.fill, MaskEmbedding, False),
        (Objective.retrieval, Projection, True),
    ],
)
def test_the_task_head_and_what_is_frozen(objective, head, is_frozen):
    learner = build_learner(objective, future_seed=seeded())
    assert learner.task_head is None if head is None else isinstance(learner.task_head, head)
    assert all(p.requires_grad != is_frozen for p in learner.model.parameters())
    learner.loss(build_batch_of(objective)).backward()
    has_gradient = [p.grad is not None for p in learner.model.parameters()]
    assert any(has_gradient) != is_frozen
    gates = learner.future_seed
    assert gates is not None
    assert gates.gate_logit.grad is not None
    if learner.task_head is not None:
        assert all(p.grad is not None for p in learner.task_head.parameters())


@pytest.mark.parametrize("objective", [Objective.answer, Objective.fill])
def test_reading_without_future_seed_is_the_backbone_alone(objective):
    learner, batch = build_learner(objective, future_seed=seeded()), build_batch_of(objective)
    if isinstance(learner.task_head, MaskEmbedding):
        head = learner.task_head
        plain = fill_hidden(learner.model, batch, mask_embedding=head, future_seed=None)
    else:
        plain = answer_hidden(learner.model, batch, future_seed=None)
    mask = batch.answer_mask
    assert torch.equal(learner.hidden(batch, seeded=False)[mask], plain[mask])
    assert not torch.allclose(learner.hidden(batch)[mask], plain[mask], atol=1e-4)


def test_the_task_head_is_as_wide_as_the_model():
    assert build_learner(Objective.fill).task_head.weight.shape == (SMALL.width,)
    assert build_learner(Objective.retrieval).task_head.weight.shape == (SMALL.width, SMALL.width)
