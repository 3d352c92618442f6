"""Whole runs of the controls: records, costs, continuation, saved weights, every objective."""

from pathlib import Path

import pytest
import torch

from fseed.models.checkpoint import load_future_seed
from fseed.records import read_run
from fseed.tasks.base import Objective
from fseed.training.attempt import Attempt
from fseed.training.batch_plan import BatchPlan
from fseed.training.batches import StepKeyedBatches
from fseed.training.build import build_future_seed, build_model
from fseed.training.callbacks import SaveCheckpoint
from fseed.training.interrupt import InterruptFlag
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.optimizer import build_optimizer
from fseed.training.sampling import noise_keys
from tests.models.build import build_batch, build_random_model
from tests.models.build import build_future_seed as build_random_gates
from tests.training.build import build_example, plan, tiny_config
from tests.training.test_objective_runs import busy_backbone, train_losses
from tests.training.test_runner import Killed, predictions, stable_rows, train

__all__ = ["busy_backbone"]  # a fixture

CONTROLS = ("shuffled_state", "random_state", "learned_state", "same_layer")
# tests/models/test_controls.py has all of them at zero strength, without a run
ONE_QUICK = [
    *(pytest.param(name, marks=pytest.mark.slow) for name in CONTROLS if name != "learned_state"),
    "learned_state",
]
OBJECTIVES = [
    pytest.param(("task=hotpot",), {}, id="answer"),
    pytest.param(("task=rightcopy",), {"task__max_answer_tokens": 16}, id="fill"),
    pytest.param(("task=hotpot_retrieval",), {"task__max_answer_tokens": 64}, id="retrieval"),
]


def losses_of(run_dir: Path, *overrides: str, **values) -> list[float]:
    assert train(run_dir, *overrides, **values).status == "finished"
    return train_losses(run_dir)


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize(("overrides", "values"), OBJECTIVES)
def test_every_control_runs_and_differs_from_its_arm(tmp_path, overrides, values):
    options = values | {"alpha__init": 2.0, "budget__steps": 3, "budget__generate": True}
    found = {
        control: losses_of(tmp_path / control, *overrides, f"control={control}", **options)
        for control in ("none", *CONTROLS)
    }
    firsts = {name: losses[0] for name, losses in found.items()}
    assert len(set(firsts.values())) == len(firsts), firsts


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize("control", ONE_QUICK)
def test_zero_strength_ties_with_the_baseline_bit_for_bit(tmp_path, control):
    train(tmp_path / "base", "fs=no_fs", budget__generate=True)
    train(tmp_path / "arm", f"control={control}", fs_variant__seed_scale=0.0, budget__generate=True)
    assert train_losses(tmp_path / "base") == train_losses(tmp_path / "arm")
    assert predictions(tmp_path / "base") == predictions(tmp_path / "arm")


@pytest.mark.usefixtures("busy_backbone")
@pytest.mark.parametrize("control", ONE_QUICK)
def test_a_killed_control_continues_bit_equal_to_its_weights(tmp_path, monkeypatch, control):
    options = {
        "budget__eval_every_steps": 2, "alpha__lr": 5e-4, "alpha__init": 1.0,
        "output__save_weights": True,
    }  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(whole, f"control={control}", **options)
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 4:
            raise Killed

    monkeypatch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
    with pytest.raises(Killed):
        train(killed, f"control={control}", **options)
    monkeypatch.undo()
    assert train(killed, f"control={control}", **options).status == "finished"
    assert stable_rows(killed) == stable_rows(whole)
    assert predictions(killed) == predictions(whole)
    saved = sorted(whole.glob("*.safetensors"))
    assert len(saved) == 2
    for path in saved:
        assert path.read_bytes() == (killed / path.name).read_bytes()


def test_the_saved_learned_state_is_the_trained_one(tmp_path):
    config = tiny_config("control=learned_state", output__save_weights=True)
    with InterruptFlag() as flag:
        attempt = Attempt(plan(config, tmp_path), flag, position="1/1")
        trained = attempt.module.future_seed
        assert trained is not None
        assert trained.learned_state is not None
        before = trained.learned_state.weight.detach().clone()
        attempt.run_to_end()
    assert (trained.learned_state.weight != before).float().mean() > 0.9
    (path,) = (p for p in tmp_path.glob("*.safetensors") if "future_seed" not in p.name)
    loaded = load_future_seed(path, shape=attempt.module.model.shape)
    assert loaded.options.control == "learned_state"
    assert loaded.learned_state is not None
    assert torch.equal(loaded.learned_state.weight, trained.learned_state.weight)


# costs


@pytest.mark.parametrize(("overrides", "values"), OBJECTIVES)
def test_what_is_read_twice_is_counted_twice(tmp_path, overrides, values):
    spent = {}
    for control in ("none", "same_layer", "repeat_prompt"):
        train(tmp_path / control, *overrides, f"control={control}", budget__steps=2, **values)
        result = read_run(tmp_path / control).result
        assert result is not None
        spent[control] = result["tokens"], result["answer_tokens"], result["steps"]
    assert spent["same_layer"][0] == spent["repeat_prompt"][0] > 1.5 * spent["none"][0]
    is_retrieval = "task=hotpot_retrieval" in overrides
    if not is_retrieval:  # its answer is the question, which repeat_prompt writes twice
        assert spent["same_layer"][1:] == spent["repeat_prompt"][1:] == spent["none"][1:]


def test_a_token_budget_gives_every_control_the_same_steps(tmp_path):
    steps = set()
    for control in ("none", "same_layer", "repeat_prompt"):
        train(tmp_path / control, f"control={control}", budget__steps=None, budget__tokens=3000)
        result = read_run(tmp_path / control).result
        assert result is not None
        steps.add(result["steps"])
    assert len(steps) == 1


# learned_state: its group of the optimiser


def build_learner(*overrides: str, **values):
    config = tiny_config(*overrides, **values)
    model = build_model(config)
    future_seed = build_future_seed(config, model.shape)
    return config, Learner(model, future_seed, objective=Objective.answer)


@pytest.mark.parametrize("alpha_lr", [0.0, 1e-3])
def test_the_learned_state_has_its_own_rate_and_no_weight_decay(alpha_lr):
    values = {"control__state_lr": 0.25, "optim__weight_decay": 0.1, "alpha__lr": alpha_lr}
    config, learner = build_learner("control=learned_state", **values)
    groups = {group["name"]: group for group in build_optimizer(config, learner).param_groups}
    state = groups["learned_state.weight"]
    assert (state["lr"], state["weight_decay"]) == (0.25, 0.0)
    # 2 seeded layers of 2 heads of 16 x 16
    assert [p.shape for p in state["params"]] == [(2, 2, 16, 16)]
    assert ("gate_logit" in groups) == (alpha_lr > 0)


def test_a_large_gradient_of_the_learned_state_does_not_shrink_that_of_the_gates():
    config, learner = build_learner("control=learned_state", optim__grad_clip=1.0)
    module, gates = FutureSeedModule(config, learner), learner.future_seed
    assert gates is not None
    assert gates.learned_state is not None
    gates.gate_logit.grad = torch.full_like(gates.gate_logit, 0.1)
    gates.learned_state.weight.grad = torch.full_like(gates.learned_state.weight, 1e3)
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters(), lr=0.1))
    assert torch.equal(gates.gate_logit.grad, torch.full_like(gates.gate_logit, 0.1))
    assert float(gates.learned_state.weight.grad.norm()) == pytest.approx(1.0, rel=1e-3)


# random_state: what its noise depends on


def test_noise_keys_are_a_function_of_seed_occasion_and_example():
    examples = [build_example(name, "prompt", "a") for name in ("a", "b", "c")]
    keys = noise_keys(examples, seed=0, occasion="step 3")
    assert len(set(keys)) == 3
    assert noise_keys(examples[::-1], seed=0, occasion="step 3") == keys[::-1]
    assert noise_keys(examples[1:2], seed=0, occasion="step 3") == keys[1:2]
    for other in ({"seed": 1, "occasion": "step 3"}, {"seed": 0, "occasion": "step 4"}):
        assert not set(noise_keys(examples, **other)) & set(keys)


def test_training_batches_carry_the_keys_of_their_step_wherever_they_start():
    examples = [build_example(str(i), "p" * (i + 1), "a") for i in range(12)]
    batches = StepKeyedBatches(BatchPlan(examples, seed=4, batch_size=3))
    first = [batch.noise_keys for batch, _ in zip(batches, range(6), strict=False)]
    batches.start_step = 4
    assert next(iter(batches)).noise_keys == first[4]
    chosen = batches.plan.chosen(4)
    assert first[4] == noise_keys(chosen, seed=4, occasion="step 4")
    assert len({key for keys in first if keys for key in keys}) == 18


def test_a_question_does_not_share_the_noise_of_its_context():
    """The same text twice: shared noise would make any question look like its own context."""
    future_seed = build_random_gates(control="random_state", lstart=1, alpha_init=1.0).double()
    learner = Learner(build_random_model(), future_seed, objective=Objective.retrieval).double()
    batch = build_batch([6, 6, 6], [6, 6, 6])._replace(noise_keys=(1, 5, 9))
    questions, contexts = learner.embed(batch._replace(answer=batch.prompt))
    assert not torch.isclose(questions, contexts).all(1).any()
    again, _ = learner.embed(batch._replace(answer=batch.prompt))
    assert torch.equal(questions, again)


@pytest.mark.usefixtures("busy_backbone")
def test_scores_under_noise_do_not_depend_on_the_evaluation_batches(tmp_path):
    rows = []
    for size in (2, 7):
        options = {"alpha__init": 2.0, "budget__steps": 1, "budget__eval_batch_size": size}
        train(tmp_path / str(size), "control=random_state", **options)
        found = predictions(tmp_path / str(size))
        rows.append({(row["step"], row["example_id"]): row["loss_sum"] for row in found})
    assert rows[0].keys() == rows[1].keys()
    for key, loss in rows[0].items():
        assert loss == pytest.approx(rows[1][key], rel=1e-4)


@pytest.mark.usefixtures("busy_backbone")
def test_the_same_run_meets_the_same_noise(tmp_path):
    options = {"alpha__init": 2.0, "budget__steps": 1}
    train(tmp_path / "a", "control=random_state", **options)
    train(tmp_path / "again", "control=random_state", **options)
    assert predictions(tmp_path / "a") == predictions(tmp_path / "again")
