"""Lightning's trainer of a run, and torch as a run needs it."""

import logging
import os
import warnings
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from fseed.config.schema import Accelerator, Precision, RunConfig
from fseed.errors import UserError
from fseed.training.checkpoint_file import SealedCheckpointIO
from fseed.training.distributed import ALONE, RankEnvironment, Ranks
from fseed.training.distributed_strategy import build_strategy
from fseed.training.host_memory import keep_freed_memory


def build_trainer(
    config: RunConfig,
    *,
    num_steps: int,
    callbacks: list[L.Callback],
    logger: Logger | Literal[False] = False,
    ranks: Ranks = ALONE,
) -> L.Trainer:
    """Return the trainer of a run: one device a rank, deterministic, no files of its own."""
    trainer = config.trainer
    environment = [RankEnvironment(ranks)] if ranks.world > 1 else []
    return L.Trainer(
        accelerator="gpu" if trainer.accelerator is Accelerator.gpu else "cpu",
        devices=ranks.world,
        strategy=build_strategy(config, ranks),
        precision=lightning_precision(trainer.precision),
        max_steps=num_steps,
        deterministic=True,
        logger=logger,
        callbacks=callbacks,
        plugins=[SealedCheckpointIO(), *environment],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )


def prepare_torch(config: RunConfig, *, ranks: Ranks = ALONE) -> None:
    """Set threads and quiet Lightning; UserError when more GPUs are asked for than there are."""
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)
    elif ranks.world > 1:
        torch.set_num_threads(max(torch.get_num_threads() // ranks.world, 1))
    if config.trainer.accelerator is Accelerator.gpu:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found == 0:
            raise UserError("trainer asks for a GPU, torch finds none; use trainer=cpu")
        if found < ranks.world:
            raise UserError(
                f"trainer.devices={ranks.world}, torch finds {found} GPU(s); lower trainer.devices"
            )
        # PyTorch reads it once, at the first product of a process, which the check of the kernels
        # does before Lightning sets it: every product of the deterministic run would be refused
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    else:
        keep_freed_memory()
    # deterministic mode would fill every new tensor with NaN first, one more pass over memory each;
    # that no kernel leaves an element unwritten is tested on poisoned memory (tests/kernels)
    deterministic: Any = torch.utils.deterministic  # its attribute is a property of the module
    deterministic.fill_uninitialized_memory = False
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def lightning_precision(precision: Precision) -> Literal["bf16-mixed", "32-true"]:
    """Return Lightning's word; master weights and AdamW states are float32 in both."""
    return "bf16-mixed" if precision is Precision.bf16 else "32-true"
