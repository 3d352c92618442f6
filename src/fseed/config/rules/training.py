"""Rules of what a run spends and on what device: budget, batches, backend."""

import math
from importlib.util import find_spec

from fseed.config.schema import (
    Accelerator,
    Backend,
    ControlKind,
    ParallelStrategy,
    Precision,
    RunConfig,
    StepMode,
)
from fseed.errors import UserError

CUDA_HEAD_SIZE = 64  # the only one of wkv_backend=cuda


def check_budget(config: RunConfig) -> None:
    """Raise UserError unless one of steps and tokens counts and a scored split has rows."""
    steps, tokens = config.budget.steps, config.budget.tokens
    if (steps is None) == (tokens is None):
        given = "neither is set" if steps is None else f"steps={steps} and tokens={tokens}"
        raise UserError(
            f"budget: exactly one of steps and tokens counts, {given}\n"
            "write budget.steps=N, or budget.tokens=N budget.steps=null"
        )
    if config.budget.test and config.data.num_test == 0:
        raise UserError("budget.test=true scores the test split, and data.num_test=0; raise it")


def check_batch(config: RunConfig) -> None:
    """Raise UserError for a batch that is larger than the training split."""
    batch_size, num_train = config.budget.batch_size, config.data.num_train
    if batch_size > num_train:
        raise UserError(
            f"budget.batch_size={batch_size} is more than data.num_train={num_train}; "
            "lower the one or raise the other"
        )


def check_micro_batch(config: RunConfig) -> None:
    """Raise UserError for micro-batches that do not add up to the batch."""
    size, batch_size = config.trainer.micro_batch_size, config.budget.batch_size
    if size is None or size == batch_size:
        return
    if size > batch_size:
        raise UserError(
            f"trainer.micro_batch_size={size} is more than budget.batch_size={batch_size}; "
            "null takes the whole batch"
        )
    if config.control.kind is ControlKind.shuffled_state and smallest_part(batch_size, size) < 2:
        raise UserError(
            "control=shuffled_state takes the state of another sample of the batch, and "
            f"trainer.micro_batch_size={size} leaves a sample of budget.batch_size={batch_size} "
            "alone; use a larger one, or null"
        )


def check_devices(config: RunConfig) -> None:
    """Raise UserError for devices that a batch cannot be shared by."""
    trainer, batch_size = config.trainer, config.budget.batch_size
    if trainer.devices == 1:
        if trainer.strategy is not ParallelStrategy.auto:
            raise UserError(
                f"trainer.strategy={trainer.strategy.value} shares a run between devices, and "
                "trainer.devices=1; raise it, or use trainer.strategy=auto"
            )
        return
    if batch_size < trainer.devices:
        raise UserError(
            f"trainer.devices={trainer.devices} leaves a device without an example of "
            f"budget.batch_size={batch_size}; lower trainer.devices"
        )
    if config.control.kind is ControlKind.shuffled_state:
        raise UserError(
            "control=shuffled_state takes the state of another sample of the batch, and states "
            f"never leave a device: trainer.devices={trainer.devices} must be 1"
        )


def check_step(config: RunConfig) -> None:
    """Raise UserError for steps as CUDA graphs where none can be captured."""
    trainer = config.trainer
    if trainer.step is not StepMode.graph:
        return
    if trainer.accelerator is not Accelerator.gpu:
        raise UserError("trainer.step=graph needs a GPU; choose trainer=bf16, or use auto")
    if trainer.wkv_backend in (Backend.chunked, Backend.reference):
        raise UserError(
            f"trainer.step=graph needs kernels, trainer.wkv_backend={trainer.wkv_backend.value}; "
            "use wkv_backend=auto, or step=auto"
        )
    if trainer.devices > 1:
        raise UserError(
            f"trainer.step=graph is for one device, trainer.devices={trainer.devices}; use auto"
        )
    if config.control.kind is ControlKind.random_state:
        raise UserError(
            "trainer.step=graph: control=random_state draws its noise on the host; use auto"
        )


def smallest_part(batch_size: int, size: int) -> int:
    """Return the samples of the smallest of equal parts, at most ``size`` each, of a batch."""
    return batch_size // math.ceil(batch_size / size)


def check_backend(config: RunConfig) -> None:
    """Raise UserError for a backend that this device, precision or head size cannot have."""
    trainer, backend = config.trainer, config.trainer.wkv_backend
    if backend not in (Backend.triton, Backend.cuda):
        return
    asked = f"trainer.wkv_backend={backend.value}"
    if trainer.accelerator is not Accelerator.gpu:
        raise UserError(f"{asked} needs a GPU; choose trainer=bf16 or trainer=gpu, or use chunked")
    if find_spec("triton") is None:
        raise UserError(
            f"{asked} needs the package triton, which is not installed; "
            "install fseed[kernels] or use chunked"
        )
    if backend is Backend.cuda and find_spec("cuda") is None:
        raise UserError(
            f"{asked} needs the package cuda-bindings, which is not installed; "
            "install fseed[kernels] or use triton"
        )
    if backend is Backend.cuda and trainer.precision is not Precision.bf16:
        raise UserError(
            f"{asked} computes in bf16, trainer.precision={trainer.precision.value}; "
            "choose trainer=bf16, or use triton"
        )
    head_size = config.model.head_size
    if backend is Backend.cuda and head_size not in (None, CUDA_HEAD_SIZE):
        raise UserError(
            f"{asked} has head size {CUDA_HEAD_SIZE}, model.head_size={head_size}; use triton"
        )
