"""The processes that train one run together: who this one is, and what they tell each other.

Every rank reads the same batches and takes its own samples; states never leave a sample, so all
that travels are gradients, weights (FSDP2), losses and score rows. Rank 0 alone writes. With one
device there is one rank and nothing here does anything.
"""

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import Tensor, distributed

from fseed.config.schema import Accelerator

T = TypeVar("T")

# one rank may score its share of a split, programs that are run included, while others wait
TIMEOUT = timedelta(minutes=60)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its run; the default is a run of one process."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes the records."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """Return what rank 0 gave; all ranks must call it."""
        if self.world == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def gather(self, value: T) -> list[T]:
        """Return what every rank gave, in the order of ranks; all ranks must call it."""
        if self.world == 1:
            return [value]
        told: list[Any] = [None] * self.world
        distributed.all_gather_object(told, value)
        return told

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``value`` over the ranks; all must call it."""
        if self.world == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.world


ALONE = Ranks()


def join(ranks: Ranks, *, store: Path, accelerator: Accelerator) -> None:
    """Meet the other ranks of this machine through the file ``store``; no port is opened for it.

    Call it once a process, before anything of Lightning is built, and ``leave`` at the end.
    """
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, loopback)
    is_gpu = accelerator is Accelerator.gpu
    if is_gpu:
        torch.cuda.set_device(ranks.rank)
    distributed.init_process_group(
        # score rows and decisions travel between CPUs in both cases
        backend="cpu:gloo,cuda:nccl" if is_gpu else "gloo",
        store=distributed.FileStore(  # pyright: ignore[reportPrivateImportUsage]
            str(store), ranks.world
        ),
        rank=ranks.rank,
        world_size=ranks.world,
        timeout=TIMEOUT,
    )


def leave() -> None:
    """Close the connections to the other ranks."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class RankEnvironment(ClusterEnvironment):
    """What Lightning asks about ranks that were started by ``distributed_launch``."""

    def __init__(self, ranks: Ranks) -> None:
        """Answer for ``ranks``, on one machine."""
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        """Tell Lightning to start no process."""
        return True

    @property
    def main_address(self) -> str:
        """The ranks have met already, see ``join``."""
        return "localhost"

    @property
    def main_port(self) -> int:
        """The ranks have met already, see ``join``."""
        return 0

    @staticmethod
    def detect() -> bool:
        """Tell Lightning never to choose this by itself."""
        return False

    def world_size(self) -> int:
        """Return the number of ranks."""
        return self.ranks.world

    def set_world_size(self, size: int) -> None:
        """Check Lightning's arithmetic."""
        assert size == self.ranks.world

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """Check Lightning's arithmetic."""
        assert rank == self.ranks.rank

    def local_rank(self) -> int:
        """Return the rank of this process; there is one machine."""
        return self.ranks.rank

    def node_rank(self) -> int:
        """Return the number of the only machine."""
        return 0
