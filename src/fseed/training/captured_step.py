"""One optimiser step as a unit: done eagerly, or captured as a CUDA graph and done again.

A step is launched kernel by kernel the first time that its shapes are met, which makes all that is
made once: compiled kernels, workspaces, the state of the optimiser. The second time it is captured
and replayed, from then on replayed; both launch the same kernels on the same shapes, so nobody can
tell from the numbers which was which. All graphs share one memory pool: they never run at a time.

Capturing needs a GPU and stands behind the interface ``Recorder``; all else is plain Python.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fseed.config.schema import Accelerator, ControlKind, RunConfig, StepMode
from fseed.errors import UserError
from fseed.models.prompt_answer import PromptAnswer
from fseed.ops.cuda_graphs import Recorder
from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.training.memory import free_memory, is_out_of_memory
from fseed.training.static_batch import map_tensors, shape_key

MAX_GRAPHS = 32  # of a run; batches of further shapes are done eagerly


@dataclass(frozen=True)
class StepPlan:
    """How the steps of a run are done; ``reason`` tells why not as graphs.

    ``is_static``: batches are prepared on the host, padded to buckets, and a step reads nothing
    back. So it is on one GPU with graphs and without, for the same digits.
    """

    mode: Literal["eager", "graph"]
    is_static: bool
    reason: str | None = None


PLAIN = StepPlan("eager", is_static=False)


def choose_step(config: RunConfig, *, backend: str, is_split: bool = False) -> StepPlan:
    """Return how the steps of a run on the operators ``backend`` are done.

    ``is_split``: memory ran out before, and what graphs hold is better used otherwise.

    Raises:
        UserError: for trainer.step=graph where a step cannot be captured.
    """
    trainer = config.trainer
    is_static = trainer.accelerator is Accelerator.gpu and trainer.devices == 1
    obstacle = _obstacle(config, backend)
    if trainer.step is StepMode.eager:
        return StepPlan("eager", is_static, "trainer.step=eager")
    if obstacle is not None and trainer.step is StepMode.graph:
        raise UserError(f"trainer.step=graph: {obstacle}; use auto or eager")
    if obstacle is None and is_split:
        obstacle = "memory ran out: no graphs beside fewer samples at a time"
    return StepPlan("eager" if obstacle else "graph", is_static, obstacle)


def _obstacle(config: RunConfig, backend: str) -> str | None:
    if config.trainer.accelerator is not Accelerator.gpu:
        return "graphs are captured on a GPU, this run has none"
    if config.trainer.devices > 1:
        return "several devices share a step"
    if config.control.kind is ControlKind.random_state:
        return "control=random_state draws its noise on the host"
    if backend not in KERNEL_BACKENDS:
        return f"the operators {backend} launch no kernels of this project"
    return None


class StepRunner:
    """Does the steps of a run on static inputs, a set of them per shape."""

    def __init__(
        self,
        *,
        gradients: Callable[[PromptAnswer], Any],
        update: Callable[[Any], Tensor],
        device: torch.device,
        recorder: Recorder | None,
        max_graphs: int = MAX_GRAPHS,
    ) -> None:
        """Split a step in two: ``gradients`` may be repeated, ``update`` with its result may not.

        ``update`` returns the numbers of the step, on the device. Without ``recorder`` every step
        is eager; so are those of batches behind ``max_graphs`` shapes.
        """
        self._gradients, self._update, self.device = gradients, update, device
        self._recorder, self._max_graphs = recorder, max_graphs
        self._shapes: dict[Any, _Shape] = {}
        self.num_graphs = self.num_eager_steps = 0
        self.capture_seconds = 0.0
        self.reason: str | None = None  # of eager steps beside the first ones of a shape

    def run(self, batch: PromptAnswer) -> Tensor:
        """Do one step with a batch on the host; return its numbers, on the device."""
        shape = self._shape_of(batch)
        if shape is None:
            return self._run_eagerly(map_tensors(batch, self._to_device))
        shape.fill(batch)
        if not shape.is_warm:
            shape.is_warm = True
            return self._run_eagerly(shape.batch)
        if shape.replay is None and not self._capture(shape):
            return self._run_eagerly(shape.batch)
        assert shape.replay is not None
        shape.replay()
        assert shape.numbers is not None
        return shape.numbers

    def close(self) -> None:
        """Let go of graphs, their memory and their inputs; what was counted stays."""
        self._shapes.clear()
        self._recorder = None

    def facts(self) -> dict[str, Any]:
        """Return what provenance.json tells of the steps that were done."""
        facts: dict[str, Any] = {
            "graphs": self.num_graphs,
            "captured_seconds": self.capture_seconds,
            "eager_steps": self.num_eager_steps,
        }
        return facts if self.reason is None else facts | {"reason": self.reason}

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _shape_of(self, batch: PromptAnswer) -> "_Shape | None":
        """Return what is kept for the shape of ``batch``; None where its steps stay eager."""
        if self._recorder is None:
            return None
        key = shape_key(batch)
        if key not in self._shapes:
            if len(self._shapes) == self._max_graphs:
                self.reason = f"batches of more than {self._max_graphs} shapes"
                return None
            self._shapes[key] = _Shape(
                map_tensors(batch, lambda x: torch.empty_like(x, device=self.device))
            )
        return self._shapes[key]

    def _run_eagerly(self, batch: PromptAnswer) -> Tensor:
        self.num_eager_steps += 1
        try:
            found = self._gradients(batch)
        except Exception as error:
            if not (self._holds_graphs and _tells_of_memory(error)):
                raise
        else:
            return self._update(found)
        # here no frame of the failed pass holds any memory
        self._go_on_without_graphs()
        return self._update(self._gradients(batch))

    def _capture(self, shape: "_Shape") -> bool:
        """Capture the step of a shape; False where memory does not suffice for a graph."""
        assert self._recorder is not None
        started = time.perf_counter()

        def step() -> None:
            shape.numbers = self._update(self._gradients(shape.batch))

        try:
            shape.replay = self._recorder.capture(step)
        except Exception as error:
            if not _tells_of_memory(error):
                raise
        self.capture_seconds += time.perf_counter() - started
        if shape.replay is None:
            self._go_on_without_graphs()
            return False
        self.num_graphs += 1
        return True

    @property
    def _holds_graphs(self) -> bool:
        return any(shape.replay is not None for shape in self._shapes.values())

    def _go_on_without_graphs(self) -> None:
        """Give back what the graphs hold: a step without them needs less."""
        self.close()
        self.reason = "memory does not hold graphs beside a step without them"
        # an error of a capture and its frames, which hold the pass that failed, refer to each other
        free_memory()


class _Shape:
    """Inputs at fixed addresses, and the captured step that reads them."""

    def __init__(self, batch: PromptAnswer) -> None:
        self.batch, self.is_warm = batch, False
        self.replay: Callable[[], None] | None = None
        self.numbers: Tensor | None = None

    def fill(self, batch: PromptAnswer) -> None:
        """Copy a batch of this shape from pinned memory, in the order of the stream."""
        for own, new in zip(self.batch, batch, strict=True):
            if isinstance(own, Tensor) and isinstance(new, Tensor):
                own.copy_(new, non_blocking=True)
        # what is no tensor is read by steps that are never captured
        self.batch = self.batch._replace(noise_keys=batch.noise_keys)


def _tells_of_memory(error: BaseException | None) -> bool:
    """Tell whether memory ran out; a capture that broke off reports that over the reason."""
    while error is not None:
        if is_out_of_memory(error):
            return True
        error = error.__context__
    return False
