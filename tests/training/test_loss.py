"""The loss of a learner: rows of answer tokens, every backend, sharded weights."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.sharded import is_sharded, whole
from fseed.tasks.base import Objective
from fseed.training import objectives
from fseed.training.objectives import Learner
from fseed_kernels.reference import relative_error
from tests.models.build import SMALL, build_batch, build_random_model
from tests.training.test_objectives import build_batch_of, seeded

OBJECTIVES = [Objective.answer, Objective.fill]
runs_kernels = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the kernels are compiled where a GPU is"
)


def build_learner(objective: Objective) -> Learner:
    return Learner(build_random_model(), seeded(), objective=objective).float()


def with_rows(batch: PromptAnswer, *, num_pads: int = 0) -> PromptAnswer:
    """Name the rows that count, in the order of the mask, and pads behind them."""
    mask = batch.answer_mask
    rows, targets = mask.flatten().nonzero().flatten(), batch.answer[mask]
    pads = torch.zeros(num_pads, dtype=torch.long)
    return batch._replace(
        rows=torch.cat((rows, pads)),
        row_targets=torch.cat((targets, pads - 1)),
        num_targets=torch.tensor(float(len(rows))),
    )


def old_loss(learner: Learner, batch: PromptAnswer) -> Tensor:
    """All logits of the rows that count, then cross-entropy, as PyTorch writes it."""
    mask = batch.answer_mask
    return F.cross_entropy(learner.model.logits(learner.hidden(batch)[mask]), batch.answer[mask])


def gradients(learner: Learner, loss: Tensor) -> dict[str, Tensor]:
    named = dict(learner.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {k: g for k, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("rows", [False, True])
def test_plain_backends_keep_their_digits(objective: Objective, rows: bool) -> None:
    learner, batch = build_learner(objective), build_batch_of(objective)
    expected = old_loss(learner, batch)
    loss = learner.loss(with_rows(batch) if rows else batch)
    assert torch.equal(loss, expected)
    found, wanted = gradients(learner, loss), gradients(learner, expected)
    assert found.keys() == wanted.keys()
    assert [name for name, value in wanted.items() if not torch.equal(found[name], value)] == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pads_among_the_rows_do_not_count(objective: Objective) -> None:
    learner = build_learner(objective).double()
    batch = build_batch_of(objective)
    expected = old_loss(learner, batch)
    loss = learner.loss(with_rows(batch, num_pads=5))
    assert torch.allclose(loss, expected, rtol=1e-12)
    found, wanted = gradients(learner, loss), gradients(learner, expected)
    assert all(torch.allclose(found[k], v, rtol=1e-9, atol=1e-14) for k, v in wanted.items())


@runs_kernels
@pytest.mark.parametrize("num_pads", [None, 0, 3])
def test_the_kernels_give_the_loss_and_gradients_of_the_plain_backend(
    num_pads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From hidden vectors on; tests/ops/test_kernel_model.py has the layers."""
    batch, width = build_batch_of(Objective.answer), SMALL.width
    hidden = torch.randn(3, 3, width, generator=torch.Generator().manual_seed(0))
    hidden.requires_grad_()
    monkeypatch.setattr(Learner, "hidden", lambda self, batch: hidden)
    learner = build_learner(Objective.answer)
    leaves = (hidden, learner.model.head.weight)
    expected = old_loss(learner, batch)
    wanted = torch.autograd.grad(expected, leaves)
    learner.model.use_backend("triton")
    given = batch if num_pads is None else with_rows(batch, num_pads=num_pads)
    loss = learner.loss(given)
    found = torch.autograd.grad(loss, leaves)
    for actual, value in zip((loss, *found), (expected, *wanted), strict=True):
        assert relative_error(actual, value) <= 2e-6
    assert (found[0][~batch.answer_mask] == 0).all()


def test_the_model_tells_its_backend() -> None:
    model = build_random_model()
    assert model.backend == "chunked"
    model.use_backend("reference")
    assert model.backend == "reference"


@pytest.fixture
def mesh() -> Iterator[object]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
def test_sharded_tables_take_the_plain_form_whatever_the_backend(
    mesh: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP2 gathers a weight for the call of its module; kernels would read a part of it."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the kernels were called")

    learner, batch = build_learner(Objective.answer), with_rows(build_batch([4, 3], [2, 1]))
    expected = gradients(learner, learner.loss(batch))
    for part in (learner.model.emb, learner.model.head, learner):  # as in distributed_strategy
        fully_shard(part, mesh=mesh)
    assert is_sharded(learner.model.head.weight)
    monkeypatch.setattr(objectives, "linear_cross_entropy", refuse)
    monkeypatch.setattr("fseed.models.rwkv7.embed_tokens", refuse)
    monkeypatch.setattr(RWKV7, "backend", "triton")
    learner(batch).backward()
    for name, parameter in learner.named_parameters():
        if name in expected:
            assert parameter.grad is not None
            assert torch.equal(whole(parameter.grad), expected[name]), name
