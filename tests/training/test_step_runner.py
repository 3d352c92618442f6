"""When a step is captured: the choice by configuration, the first steps of a shape, no memory."""

from dataclasses import replace

import pytest
import torch

from fseed.config.schema import Accelerator, ControlKind, StepMode
from fseed.errors import UserError
from fseed.training.captured_step import StepRunner, choose_step
from fseed.training.static_batch import Buckets, pad_batch
from tests.training.build import tiny_config
from tests.training.static_runs import ReplayRecorder
from tests.training.test_micro_batches import BATCH


class Counted:
    """A step of one weight: counts what is done and may run out of memory."""

    def __init__(self, *, fail_at: int | None = None, error: Exception | None = None) -> None:
        self.calls, self.updates, self.fail_at = 0, 0, fail_at
        self.error = error or torch.OutOfMemoryError("full")

    def gradients(self, batch):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return batch.prompt.sum()

    def update(self, total):
        self.updates += 1
        return total.float().reshape(1)

    def runner(self, recorder, **options) -> StepRunner:
        return StepRunner(
            gradients=self.gradients, update=self.update, device=torch.device("cpu"),
            recorder=recorder, **options,
        )  # fmt: skip


def batch_of(prompt: int):
    """Return a batch whose prompts are padded to ``prompt`` tokens."""
    return pad_batch(BATCH, Buckets(longest_prompt=prompt, longest_answer=9))


def test_the_first_step_of_a_shape_is_eager_the_second_captured_and_none_is_done_twice():
    step, recorder = Counted(), ReplayRecorder()
    runner = step.runner(recorder)
    for _ in range(4):
        # the buffers take the batch of each step
        batch = batch_of(200)
        batch = batch._replace(prompt=batch.prompt + step.updates)
        assert runner.run(batch).item() == batch.prompt.sum()
    assert (step.calls, step.updates) == (4, 4)
    assert (recorder.num_captured, recorder.num_replayed) == (1, 3)
    assert runner.facts()["graphs"] == 1
    assert runner.facts()["eager_steps"] == 1


def test_behind_the_bound_steps_are_eager_and_the_records_say_so():
    step, recorder = Counted(), ReplayRecorder()
    runner = step.runner(recorder, max_graphs=1)
    for prompt in (16, 200, 16, 200, 200):
        runner.run(batch_of(prompt))
    assert (step.updates, recorder.num_captured) == (5, 1)
    facts = runner.facts()
    assert (facts["graphs"], facts["eager_steps"]) == (1, 4)
    assert facts["reason"] == "batches of more than 1 shapes"


def test_an_eager_step_for_which_graphs_leave_no_memory_is_done_without_them():
    step = Counted(fail_at=3)
    runner = step.runner(ReplayRecorder())
    for prompt in (16, 16, 200, 200):
        runner.run(batch_of(prompt))
    assert step.updates == 4
    facts = runner.facts()
    assert (facts["graphs"], facts["eager_steps"]) == (1, 3)
    assert facts["reason"] == "memory does not hold graphs beside a step without them"


class FullRecorder:
    """Runs out of memory, and reports that the capture is broken."""

    def capture(self, function):
        try:
            raise torch.OutOfMemoryError("full")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_memory_that_does_not_hold_a_graph_is_found_behind_the_error_of_the_capture():
    step = Counted()
    runner = step.runner(FullRecorder())
    for _ in range(3):
        runner.run(batch_of(16))
    facts = runner.facts()
    assert (step.updates, facts["graphs"], facts["eager_steps"]) == (3, 0, 3)
    assert facts["reason"] == "memory does not hold graphs beside a step without them"


@pytest.mark.parametrize(
    ("fail_at", "error"), [(1, None), (2, None), (2, ValueError("other")), (3, ValueError("other"))]
)
def test_other_errors_and_memory_that_no_graph_holds_are_raised(fail_at, error):
    step = Counted(fail_at=fail_at, error=error)
    runner = step.runner(ReplayRecorder())
    for prompt in (16, 16, 200)[: fail_at - 1]:
        runner.run(batch_of(prompt))
    with pytest.raises(type(step.error)):
        runner.run(batch_of((16, 16, 200)[fail_at - 1]))


def gpu_config(**values):
    config = tiny_config(**values)
    return replace(config, trainer=replace(config.trainer, accelerator=Accelerator.gpu))


def test_a_gpu_with_kernels_captures_its_steps():
    for backend in ("cuda", "triton"):
        step = choose_step(gpu_config(), backend=backend)
        assert (step.mode, step.is_static, step.reason) == ("graph", True, None)


def test_what_cannot_be_captured_is_eager_and_says_why():
    noise = gpu_config()
    noise = replace(noise, control=replace(noise.control, kind=ControlKind.random_state))
    cases = [
        (tiny_config(), "chunked", False, "no"),
        (gpu_config(), "chunked", False, "launch no kernels"),
        (noise, "triton", False, "noise on the host"),
        (gpu_config(trainer__devices=2), "triton", False, "several devices"),
        (gpu_config(), "triton", True, "memory ran out"),
        (gpu_config(trainer__step="eager"), "triton", False, "trainer.step=eager"),
    ]
    for config, backend, is_split, reason in cases:
        step = choose_step(config, backend=backend, is_split=is_split)
        assert step.mode == "eager"
        assert step.reason is not None
        assert reason in step.reason
        is_alone_on_gpu = config.trainer.devices == 1 and config is not cases[0][0]
        assert step.is_static == is_alone_on_gpu


def test_graphs_that_were_asked_for_are_not_replaced():
    config = gpu_config(trainer__step="graph")
    assert config.trainer.step is StepMode.graph
    with pytest.raises(UserError, match="the operators chunked launch no kernels"):
        choose_step(config, backend="chunked")
    # but memory that ran out is no reason to end
    assert choose_step(config, backend="cuda", is_split=True).mode == "eager"
