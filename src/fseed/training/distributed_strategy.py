"""How the ranks of a run share its work: DDP (a copy of the weights each) or FSDP2 (a part each).

FSDP2 shards layer by layer, the embedding and the output projection apart, and all the rest (last
norm, task head, gates) with the learner. A layer is whole while it computes, so the operators and
kernels see plain local tensors; master weights, gradients and AdamW states are float32 shards.

Scores are taken from a copy of the learner with all weights gathered, on every rank: the ranks
score different batches and decode answers of different lengths, which sharded layers could not.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from fseed.config.schema import ParallelStrategy, RunConfig
from fseed.models.checkpoint import fill_model
from fseed.models.rwkv7 import RWKV7
from fseed.models.sharded import whole
from fseed.training.build import build_future_seed
from fseed.training.distributed import TIMEOUT, Ranks
from fseed.training.objectives import Learner


def is_sharded(config: RunConfig, ranks: Ranks) -> bool:
    """Tell whether every rank holds a part of the weights only."""
    return ranks.world > 1 and config.trainer.strategy is ParallelStrategy.fsdp2


def build_strategy(config: RunConfig, ranks: Ranks) -> Strategy | Literal["auto"]:
    """Return Lightning's strategy; ``auto`` (nothing at all) for a run of one device."""
    if ranks.world == 1:
        return "auto"
    if is_sharded(config, ranks):
        return ModelParallelStrategy(
            data_parallel_size=ranks.world,
            tensor_parallel_size=1,
            # one file with all weights on rank 0: any number of devices can go on from it
            save_distributed_checkpoint=False,
            timeout=TIMEOUT,
        )
    return DDPStrategy(timeout=TIMEOUT, gradient_as_bucket_view=True)


class Sharding:
    """The parts of one learner on the ranks, and its plain twin that is scored and saved."""

    def __init__(self, config: RunConfig, learner: Learner) -> None:
        """Build the twin, which holds no numbers until weights are ``gathered``."""
        self.config, self.learner = config, learner
        with torch.device("meta"):
            model = RWKV7(learner.model.shape)
            future_seed = build_future_seed(config, model.shape)
            self.twin = Learner(model, future_seed, objective=learner.objective)
        model.use_backend(learner.model.layers[0].att.backend)

    def apply(self, mesh: DeviceMesh | None) -> None:
        """Leave each rank of ``mesh`` its part of every parameter; each reads its own weights."""
        assert mesh is not None
        # a warning to those who would write into what a layer returns; nothing here does
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        data_mesh, model = mesh["data_parallel"], self.learner.model
        for part in (*model.layers, model.emb, model.head):
            fully_shard(part, mesh=data_mesh)
        fully_shard(self.learner, mesh=data_mesh)
        if self.config.model.weights is not None:
            fill_model(model, Path(self.config.model.weights))

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Fill the twin with all weights on every rank, empty it at the end; all must call it."""
        with torch.no_grad():
            tensors = {name: whole(p.detach()) for name, p in self.learner.named_parameters()}
        self.twin.load_state_dict(tensors, assign=True)
        del tensors
        try:
            yield
        finally:
            self.twin.to_empty(device=torch.device("meta"))
