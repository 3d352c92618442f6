import pytest
import torch

from fseed.tasks.base import Objective
from fseed.training.build import build_future_seed, build_model
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.optimizer import (
    build_optimizer,
    build_warmup,
    clip_gradients,
    current_rate,
    keep_rates_on_device,
    plain_rates,
    plain_warmup,
)
from tests.training.build import tiny_config

BACKBONE = ["vectors", "matrices", "decay_base"]


def build(objective: Objective, *overrides: str, **values):
    config = tiny_config(*overrides, **values)
    model = build_model(config)
    learner = Learner(model, build_future_seed(config, model.shape), objective=objective)
    return config, learner, build_optimizer(config, learner)


def names_of(optimizer) -> list[str]:
    return [group["name"] for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (Objective.answer, BACKBONE),
        (Objective.fill, [*BACKBONE, "task_head"]),
        (Objective.retrieval, ["task_head"]),
    ],
)
@pytest.mark.parametrize("is_seeded", [True, False])
def test_groups_of_every_objective(objective, names, is_seeded):
    overrides = () if is_seeded else ("fs=no_fs",)
    _, _, optimizer = build(objective, *overrides, alpha__lr=1e-3)
    assert names_of(optimizer) == names + ["gate_logit"] * is_seeded


@pytest.mark.parametrize("objective", Objective)
def test_every_trained_parameter_stands_in_exactly_one_group(objective):
    _, learner, optimizer = build(objective, alpha__lr=1e-3)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in learner.parameters() if p.requires_grad}


def test_the_task_head_has_its_own_rate_and_no_weight_decay():
    _, _, optimizer = build(Objective.fill, optim__task_head_lr=0.25, optim__weight_decay=0.1)
    (head,) = (group for group in optimizer.param_groups if group["name"] == "task_head")
    assert (head["lr"], head["weight_decay"]) == (0.25, 0.0)


def test_gates_without_a_rate_lose_their_gradient():
    _, learner, optimizer = build(Objective.retrieval, alpha__lr=0.0)
    assert names_of(optimizer) == ["task_head"]
    assert learner.future_seed is not None
    assert not learner.future_seed.gate_logit.requires_grad


def test_backbone_head_and_gates_are_clipped_apart():
    config, learner, optimizer = build(Objective.fill, alpha__lr=1e-3, optim__grad_clip=1.0)
    module = FutureSeedModule(config, learner)
    for size, part in [
        (3.0, learner.model),
        (40.0, learner.task_head),
        (500.0, learner.future_seed),
    ]:
        for parameter in part.parameters():
            parameter.grad = torch.full_like(parameter, size)
    norms = [norm_of(part) for part in (learner.model, learner.task_head)]
    module.configure_gradient_clipping(optimizer)
    assert module.grad_norms is not None
    assert [float(norm) for norm in module.grad_norms] == pytest.approx(norms, rel=1e-5)
    for part in (learner.model, learner.task_head, learner.future_seed):
        assert norm_of(part) == pytest.approx(1.0, rel=1e-4)


def norm_of(part) -> float:
    return float(torch.cat([p.grad.flatten() for p in part.parameters()]).norm())


def test_nothing_to_clip():
    assert clip_gradients(None, max_norm=1.0) is None
    assert clip_gradients(torch.nn.Linear(2, 2), max_norm=1.0) is None
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    before = norm_of(layer)
    assert clip_gradients(layer, max_norm=0.0) == pytest.approx(before)
    assert norm_of(layer) == pytest.approx(before)


def test_a_norm_stays_on_its_device():
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    assert isinstance(clip_gradients(layer, max_norm=1.0), torch.Tensor)


def test_rates_that_a_device_keeps_follow_the_warm_up():
    """On a CPU nothing is moved, so the tensors are put in place by hand."""
    _, _, optimizer = build(Objective.answer, alpha__lr=1e-3, optim__lr=1e-3)
    warmup = build_warmup(optimizer, warmup_steps=4)
    keep_rates_on_device(optimizer)
    assert current_rate(warmup) == optimizer.param_groups[0]["lr"] == 2.5e-4
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    tensors = [group["lr"] for group in optimizer.param_groups]
    optimizer.step()
    for step in range(2, 7):
        warmup.step()
        assert current_rate(warmup) == 1e-3 * min(1.0, step / 4)
        # filled, not replaced: a captured step reads this memory
        assert all(g["lr"] is t for g, t in zip(optimizer.param_groups, tensors, strict=True))
        assert float(tensors[0]) == pytest.approx(current_rate(warmup), rel=1e-6)
    kept = plain_rates(optimizer.param_groups[0])
    assert isinstance(kept["lr"], float)
    assert kept["capturable"] is False


def test_a_checkpoint_keeps_the_last_rates_as_numbers():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.25))
    warmup = build_warmup(optimizer, warmup_steps=2)
    kept = plain_warmup(warmup.state_dict())
    assert kept["_last_lr"] == [0.125]
    assert not isinstance(kept["_last_lr"][0], torch.Tensor)
    assert set(kept) == set(warmup.state_dict())
