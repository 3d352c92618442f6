"""Faults for ``prepare`` of a command: patched into its process, and so into its workers.

They hit the arm of seed 1 at the optimiser step ``STEP``, behind the checkpoint of step 4.
"""

import functools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fseed.heartbeat import beat
from fseed.training.module import FutureSeedModule

STEP = 5
VICTIM = "s1-"


def at_step(action: Callable[[FutureSeedModule], object], once: Path | None = None) -> None:
    """Call ``action`` before the step; with ``once`` only where that file is not there yet."""
    original = FutureSeedModule.training_step

    def step(self: FutureSeedModule, batch: Any, batch_idx: int) -> Any:
        is_victim = self.config.seed == 1 and self.future_seed is not None
        if is_victim and self.trainer.global_step == STEP and not (once and once.exists()):
            if once is not None:
                once.touch()
            action(self)
        return original(self, batch, batch_idx)

    FutureSeedModule.training_step = step


def run_out_of_gpu_memory(module: FutureSeedModule) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (injected)")


def run_out_of_memory(module: FutureSeedModule) -> None:
    raise MemoryError("injected")


def poison(module: FutureSeedModule) -> None:
    """Let the loss of this step be NaN through the weights that compute it."""
    with torch.no_grad():
        module.model.head.weight.fill_(float("nan"))


def hang(module: FutureSeedModule) -> None:
    """Stand still: a dead driver."""
    time.sleep(600)


def crawl(module: FutureSeedModule) -> None:
    """Be alive and never done."""
    while True:
        beat("training", step=STEP, num_steps=12)
        time.sleep(0.1)


def die(module: FutureSeedModule) -> None:
    """Be killed, as by somebody else."""
    os.kill(os.getpid(), signal.SIGKILL)


def jump_clock(seed: int) -> None:
    """Let the wall clock, and the times of written files, jump by up to two days at every look."""
    generator = random.Random(seed)
    now, now_ns, replace = time.time, time.time_ns, os.replace

    def jump() -> float:
        return generator.uniform(-48, 48) * 3600

    def replace_and_date(source: Any, target: Any, **options: Any) -> None:
        replace(source, target, **options)
        moment = now() + jump()
        os.utime(target, (moment, moment))

    time.time = lambda: now() + jump()
    time.time_ns = lambda: now_ns() + int(jump() * 1e9)
    os.replace = functools.wraps(replace)(replace_and_date)
