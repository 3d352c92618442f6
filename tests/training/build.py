"""Planned runs small enough to train in a second."""

from pathlib import Path

from fseed.config.schema import Accelerator, RunConfig
from fseed.models.checkpoint_header import weights_fingerprint
from fseed.planned_run import PlannedRun
from fseed.tasks.base import EncodedExample
from fseed.tasks.registry import data_fingerprint
from tests.configs import build_config

TINY = {
    "model__num_layers": 3,
    "model__width": 32,
    "model__ffn_width": 64,
    "model__decay_rank": 8,
    "model__in_context_rank": 8,
    "model__value_rank": 8,
    "model__gate_rank": 8,
    "model__head_size": 16,
    "data__num_train": 24,
    "data__num_validation": 7,
    "budget__steps": 6,
    "budget__batch_size": 4,
    "budget__eval_batch_size": 4,
    "budget__generate": False,
    "task__max_answer_tokens": 8,
    "task__max_length_tokens": 128,
    "lstart": 1,
    "trainer__progress": False,
}


def tiny_config(*overrides: str, **values) -> RunConfig:
    return build_config(*overrides, **(TINY | values))


def plan(config: RunConfig, run_dir: Path, *, arm: str = "scalar_l10") -> PlannedRun:
    assert config.trainer.accelerator is Accelerator.cpu
    weights = config.model.weights
    is_file = weights is not None and Path(weights).is_file()
    return PlannedRun(
        config=config,
        run_id="0123456789",
        pair_key="aaaaaaaaaa",
        arm_key="bbbbbbbbbb",
        arm=arm,
        run_dir=run_dir,
        data_hash=data_fingerprint(config.task, config.data),
        weights_hash=weights_fingerprint(weights) if is_file else None,
        vocabulary_hash=None,
        code_hash="0" * 64,
    )


def build_example(name: str, prompt: str, answer: str, **facts) -> EncodedExample:
    """Return an example of bytes whose answer has a unit a byte, then end of text."""
    defaults = {
        "example_id": name,
        "kind": "only",
        "prompt_ids": list(prompt.encode()),
        "answer_ids": [*answer.encode(), 0],
        "answers": (answer,),
        "units": tuple(range(len(answer))),
    }
    return EncodedExample(**(defaults | facts))
