"""What a run spends, how it learns and on what: sections ``budget``, ``optim``, ``trainer``."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Accelerator(Enum):
    """Device kind of a run."""

    cpu = "cpu"
    gpu = "gpu"


class Precision(Enum):
    """Compute precision; master weights are float32 in both."""

    float32 = "float32"
    bf16 = "bf16"


class Backend(Enum):
    """Implementation of the wkv7 operator and of what stands around it in a layer."""

    auto = "auto"  # cuda, then triton, then chunked: the fastest that passes its self-check
    cuda = "cuda"
    triton = "triton"
    chunked = "chunked"
    reference = "reference"


class StepMode(Enum):
    """How the work of an optimiser step reaches a GPU; the digits are the same."""

    auto = "auto"  # graph where it can be captured, else eager; the records tell which and why
    eager = "eager"  # kernel by kernel
    graph = "graph"  # one CUDA graph for each shape of a batch


class ParallelStrategy(Enum):
    """How several devices share a run."""

    auto = "auto"  # ddp where there are several
    ddp = "ddp"  # all weights on every device, gradients averaged
    fsdp2 = "fsdp2"  # weights, gradients and AdamW states in parts, a layer whole while it computes


@dataclass
class BudgetConfig:
    """What every arm of a comparison spends, and when it is scored."""

    steps: int | None = None  # optimiser steps; exactly one of steps and tokens is set
    tokens: int | None = None  # prompt + answer tokens, rounded up to a whole step
    batch_size: int = MISSING  # examples per optimiser step
    eval_every_steps: int | None = None  # null: only before the first and after the last step
    eval_batch_size: int = MISSING  # examples
    generate: bool = True  # free decoding at the last evaluation
    generate_first: bool = False  # also before the first step
    test: bool = False  # score the test split once, after the last step
    checkpoint_every_steps: int | None = None  # null: with evaluations, and every ~30 s


@dataclass
class OptimConfig:
    """AdamW and its schedule; gate parameters have their own groups without weight decay."""

    lr: float = MISSING
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0  # on the large matrices only
    grad_clip: float = 1.0  # bound on the gradient norm; 0 turns it off
    warmup_steps: int = 0
    decay_lr_multiplier: float = 1.0  # of att.w0; 2 in official pre-training
    task_head_lr: float = 1e-3  # mask embedding (fills) and projection (retrieval)


@dataclass
class TrainerConfig:
    """Device and numerics."""

    accelerator: Accelerator = Accelerator.cpu
    precision: Precision = Precision.float32
    wkv_backend: Backend = Backend.auto
    step: StepMode = StepMode.auto
    micro_batch_size: int | None = None  # examples a backward pass; null: the device's whole share
    devices: int = 1  # of this machine, that share each batch of a run
    strategy: ParallelStrategy = ParallelStrategy.auto
    activation_checkpointing: bool = False  # compute each layer twice, keep its inputs alone
    num_threads: int | None = None  # CPU threads of a process (one a device); null: all cores
    progress: bool = True
