"""Runs whose steps are captured by a recorder that needs no GPU."""

from collections.abc import Callable
from pathlib import Path

import torch

from fseed.planned_run import PlannedRun
from fseed.training import attempt as attempt_module
from fseed.training.attempt import Attempt
from fseed.training.captured_step import StepPlan
from fseed.training.interrupt import InterruptFlag
from tests.training.build import plan, tiny_config

# examples of other lengths too, so that batches have several shapes
SHAPES = {"task__max_length_tokens": 256, "data__num_train": 40}


class ReplayRecorder:
    """Replays by calling the function again; counts both."""

    def __init__(self) -> None:
        self.num_captured = self.num_replayed = 0

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.num_captured += 1

        def replay() -> None:
            self.num_replayed += 1
            function()

        return replay


def use_static_steps(monkeypatch, mode: str, recorder=ReplayRecorder) -> None:
    """Let every attempt do static steps, as on a GPU, ``graph`` or ``eager``."""
    step = StepPlan("graph" if mode == "graph" else "eager", is_static=True)
    monkeypatch.setattr(attempt_module, "choose_step", lambda *_, **__: step)
    monkeypatch.setattr(attempt_module, "CudaGraphRecorder", recorder)


def static_plan(run_dir: Path, *overrides: str, **values) -> PlannedRun:
    return plan(tiny_config(*overrides, **(SHAPES | values)), run_dir)


def finish(run: PlannedRun) -> Attempt:
    """Train a run to its end and return what trained it."""
    with InterruptFlag() as flag:
        attempt = Attempt(run, flag, position="1/1")
        attempt.run_to_end()
    return attempt


def weights_of(attempt: Attempt) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in attempt.module.learner.state_dict().items()}
