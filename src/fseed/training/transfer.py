"""Copies between host and device that neither waits for.

On a CPU nothing is copied, and every call does its work when it is made.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fseed.models.prompt_answer import PromptAnswer
from fseed.training.static_batch import map_tensors, pin

T = TypeVar("T")


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on ``device``, without waiting for a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def move_batch(batch: PromptAnswer, device: torch.device) -> PromptAnswer:
    """Return a batch of the host on ``device``, without waiting for a GPU."""
    if device.type != "cuda":
        return batch.to(device)
    return map_tensors(pin(batch), lambda tensor: tensor.to(device, non_blocking=True))


def fetch(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Start to copy tensors to the host; the call that is returned waits for the copies."""
    is_cuda = tensors[0].device.type == "cuda"
    copies = [tensor.to("cpu", non_blocking=is_cuda) for tensor in tensors]
    if not is_cuda:
        return lambda: copies
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> list[Tensor]:
        copied.synchronize()
        return copies

    return wait


def one_behind(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield what every call returns, each called after the next one was made.

    So the device has work while the host waits for, and goes through, what came before.
    """
    before: Callable[[], T] | None = None
    for call in calls:
        if before is not None:
            yield before()
        before = call
    if before is not None:
        yield before()
