"""The memory probe: what it measures, how it halves, and that it leaves nothing behind."""

import gc
import logging
import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fseed.errors import UserError
from fseed.models.tokenizer import build_tokenizer
from fseed.tasks.base import Objective
from fseed.tasks.registry import get_task
from fseed.training.answer_scores import score_answers
from fseed.training.captured_step import StepPlan
from fseed.training.data_module import load_examples
from fseed.training.objectives import Learner
from fseed.training.probe import (
    ProbeResult,
    longest_batch,
    probe_batches,
    probe_memory,
    real_lengths,
)
from fseed.training.process_settings import restored_settings
from fseed.training.runner import train_run
from fseed.training.static_batch import shape_key
from tests.training.build import plan, tiny_config

SHORT = {"task__max_length_tokens": 48}


def probe(folder: Path, *overrides: str, **values) -> ProbeResult:
    return probe_memory(plan(tiny_config(*overrides, **(SHORT | values)), folder / "run"))


@pytest.fixture
def memory(monkeypatch):
    """Memory for so many prompt tokens in one training batch, and the sizes that were tried."""

    found = SimpleNamespace(num_tokens=10**9, sizes=[], error=torch.OutOfMemoryError)
    original = Learner.loss

    def loss(self, batch):
        found.sizes.append(batch.prompt.shape[0])
        if batch.prompt.numel() > found.num_tokens:
            raise found.error("simulated: no memory left")
        return original(self, batch)

    monkeypatch.setattr(Learner, "loss", loss)
    return found


def test_a_batch_that_fits_is_measured_whole(tmp_path, memory):
    found = probe(tmp_path)
    assert memory.sizes == [4, 4]
    assert found.micro_batch_size == 4
    assert found.peak_gib > 0.1
    assert (found.reserved_gib, found.eval_batch_size) == (None, None)
    assert found.seconds_per_step > 0
    assert found.tokens_per_second * found.seconds_per_step == pytest.approx(4 * 48)


@pytest.mark.parametrize(
    ("fitting", "expected", "sizes"),
    [(2, 2, [4, 2, 2, 2, 2]), (1, 1, [4, 2] + [1] * 8)],
)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_too_little_memory_halves_the_micro_batch(
    tmp_path, memory, fitting, expected, sizes, error
):
    memory.num_tokens, memory.error = fitting * 39, error
    assert probe(tmp_path).micro_batch_size == expected
    assert memory.sizes == sizes


def test_an_odd_batch_is_halved_upwards(tmp_path, memory):
    memory.num_tokens = 2 * 39
    found = probe(tmp_path, budget__batch_size=5)
    assert (found.micro_batch_size, memory.sizes[:3]) == (2, [5, 3, 2])


def test_halving_starts_from_the_configured_micro_batch(tmp_path, memory):
    assert probe(tmp_path, trainer__micro_batch_size=2).micro_batch_size == 2
    assert memory.sizes == [2, 2, 2, 2]


def test_not_even_one_example_is_an_error_with_the_length(tmp_path, memory):
    memory.num_tokens = 10
    with pytest.raises(UserError, match=r"not even one example .*max_length_tokens=48"):
        probe(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "fitting", "tried"),
    [("control=shuffled_state", 1, [4, 2]), ("task=hotpot_retrieval", 3, [4])],
)
def test_samples_that_need_each_other_are_not_parted(tmp_path, memory, overrides, fitting, tried):
    memory.num_tokens = fitting * 39
    message = rf"a batch of {tried[-1]} does not fit .* lower budget\.batch_size"
    with pytest.raises(UserError, match=message):
        probe(tmp_path, overrides)
    assert memory.sizes == tried


def test_a_cpu_says_out_of_memory_in_its_own_way(tmp_path, memory):
    memory.num_tokens = 2 * 39
    memory.error = lambda text: RuntimeError("DefaultCPUAllocator: can't allocate memory")
    assert probe(tmp_path).micro_batch_size == 2


@pytest.fixture
def scoring(monkeypatch):
    """The most samples that can be scored at once, and how many were tried."""

    found = SimpleNamespace(fitting=10**9, sizes=[])

    def scores(head, hidden, batch, **options):
        found.sizes.append(len(batch.prompt))
        if len(batch.prompt) > found.fitting:
            raise torch.OutOfMemoryError("simulated")
        return score_answers(head, hidden, batch, **options)

    monkeypatch.setattr("fseed.training.probe.score_answers", scores)
    return found


def test_an_evaluation_batch_that_does_not_fit_is_halved(tmp_path, scoring):
    scoring.fitting = 1
    found = probe(tmp_path)
    assert scoring.sizes == [4, 2, 1]
    assert (found.micro_batch_size, found.eval_batch_size) == (4, 1)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ((), "not even one example fits into memory in evaluation"),
        (("control=shuffled_state",), r"budget\.eval_batch_size=4 does not fit .* same batch"),
    ],
)
def test_an_evaluation_that_cannot_be_halved_is_named(tmp_path, scoring, overrides, reason):
    scoring.fitting = 0
    with pytest.raises(UserError, match=reason):
        probe(tmp_path, *overrides)


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path, memory):
    memory.num_tokens, memory.error = 10, ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        probe(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "objective", "prompt", "answer"),
    [
        ((), Objective.answer, 39, 9),
        (("control=repeat_prompt",), Objective.answer, 78, 9),
        (("task=rightcopy",), Objective.fill, 48, 8),
        (("task=rightcopy", "control=repeat_prompt"), Objective.fill, 96, 8),
        (("task=hotpot_retrieval",), Objective.retrieval, 48, 8),
        (("task=hotpot_retrieval", "control=repeat_prompt"), Objective.retrieval, 96, 16),
    ],
)
def test_the_longest_batch_has_the_lengths_of_the_task(overrides, objective, prompt, answer):
    batch = longest_batch(tiny_config(*overrides, **SHORT), objective, size=3)
    assert batch.prompt.shape == (3, prompt)
    assert batch.answer.shape == (3, answer)
    assert batch.prompt_lengths.tolist() == [prompt] * 3
    assert batch.answer_lengths.tolist() == [answer] * 3
    if objective is Objective.fill:
        assert batch.mask_positions is not None
        assert batch.mask_positions.shape == (3, answer * prompt // 48)
        assert int(batch.mask_positions.max()) < prompt


@pytest.mark.parametrize(
    ("override", "num_answer"),
    [("task=hotpot", 8), ("task=rightcopy", 16), ("task=hotpot_retrieval", 64)],
)
def test_with_data_the_lengths_are_those_of_its_longest_examples(tmp_path, override, num_answer):
    run = plan(tiny_config(override, task__max_answer_tokens=num_answer), tmp_path)
    objective = get_task(run.config.task.name).objective
    config = replace(run.config, task=real_lengths(run))
    batch = longest_batch(config, objective, size=2)
    tokenizer = build_tokenizer(run.config.model.tokenizer, vocab_file=None)
    splits = load_examples(run.config, tokenizer, data_hash=run.data_hash).splits.values()
    examples = [example for split in splits for example in split]
    for tokens, name in ((batch.prompt, "prompt_ids"), (batch.answer, "answer_ids")):
        assert tokens.shape[1] == max(len(getattr(example, name)) for example in examples)


@pytest.mark.parametrize(
    "overrides",
    [
        ("task=rightcopy",),
        ("task=rightcopy", "control=repeat_prompt"),
        ("task=hotpot_retrieval",),
        ("control=random_state",),
        ("control=learned_state",),
        ("control=same_layer",),
        ("fs=no_fs",),
    ],
)
def test_every_kind_of_arm_can_be_probed(tmp_path, overrides):
    found = probe(tmp_path, *overrides, budget__batch_size=2)
    assert found.micro_batch_size == 2
    assert found.tokens_per_second > 0


def test_the_second_pass_counts_in_the_throughput(tmp_path):
    for control, tokens in (("none", 48), ("same_layer", 48 + 39), ("repeat_prompt", 48 + 39)):
        found = probe(tmp_path, f"control={control}")
        assert found.tokens_per_second * found.seconds_per_step == pytest.approx(4 * tokens)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("is_unusual", [True, False])
def test_nothing_is_left_behind(tmp_path, monkeypatch, memory, fits, is_unusual):
    monkeypatch.chdir(tmp_path)
    memory.num_tokens = 10**9 if fits else 10
    with restored_settings():
        set_all_otherwise(monkeypatch)
        if not is_unusual:
            torch.use_deterministic_algorithms(False)
            monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
        found, before = process_settings(), _count_learners()
        try:
            probe(tmp_path, trainer__num_threads=torch.get_num_threads() + 1)
            assert fits
        except UserError:
            assert not fits
        assert process_settings() == found
    assert os.listdir(tmp_path) == []
    assert _count_learners() <= before


def test_a_run_does_change_the_settings_that_a_probe_puts_back(tmp_path, monkeypatch):
    with restored_settings():
        set_all_otherwise(monkeypatch)
        found = process_settings()
        train_run(plan(tiny_config(budget__steps=1, trainer__num_threads=1), tmp_path / "run"))
        changed = {name for name, value in process_settings().items() if value != found[name]}
    assert changed >= {
        *("random", "threads", "warn_only", "fill", "cudnn.benchmark", "cublas"),
        *("log_level", "filters"),
    }


def set_all_otherwise(monkeypatch) -> None:
    """Give every setting another value than the one a run gives it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(3)
    logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", category=ImportWarning)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def process_settings() -> dict[str, object]:
    cudnn = torch.backends.cudnn
    return {
        "random": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        **{f"cudnn.{name}": getattr(cudnn, name) for name in ("benchmark", "deterministic")},
        "matmul": torch.get_float32_matmul_precision(),
        "type": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "device_order": os.environ.get("CUDA_DEVICE_ORDER"),
        "log_level": logging.getLogger("lightning.pytorch").level,
        "filters": list(warnings.filters),
    }


def _count_learners() -> int:
    gc.collect()
    return sum(type(thing) is Learner for thing in gc.get_objects())


@pytest.mark.parametrize(("mode", "num_steps"), [("eager", 2), ("graph", 4)])
def test_a_probe_of_static_steps_has_a_step_beside_a_graph(monkeypatch, mode, num_steps):
    monkeypatch.setattr("fseed.training.data_module.pin", lambda batch: batch)
    longest = longest_batch(tiny_config(), Objective.answer, size=2)
    batches = probe_batches(longest, StepPlan(mode, is_static=True))
    keys = [shape_key(batch) for batch in batches]
    assert len(keys) == num_steps
    assert keys[0] == keys[1] == keys[-1]
    assert len(set(keys)) == num_steps // 2
