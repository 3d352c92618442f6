"""The typed root of every configuration: one dataclass per config group.

Units stand in the names (``_tokens``, ``_steps``, ``_seconds``); ``None`` means unset, never a
sentinel. Hydra merges the YAML files of ``conf/`` into this schema, so a misspelt key or a wrong
type is an error before anything else happens.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Mode(Enum):
    """Whether the prompt pass seeds each layer from the layer below."""

    no_fs = "no_fs"
    prompt_fs = "prompt_fs"


class Gate(Enum):
    """Strength of the carried state, see mechanism section 2."""

    scalar = "scalar"
    head = "head"
    inputgate = "inputgate"
    raw = "raw"


class Norm(Enum):
    """Scale of the carried state before the gate."""

    rms = "rms"
    none = "none"


class ScheduleKind(Enum):
    """How the strength changes with depth."""

    none = "none"
    linear = "linear"
    cosine = "cosine"


class ControlKind(Enum):
    """Arms that tell a mechanism from an accident."""

    none = "none"
    aa = "aa"
    shuffled_state = "shuffled_state"
    random_state = "random_state"
    learned_state = "learned_state"
    same_layer = "same_layer"
    repeat_prompt = "repeat_prompt"


class SourceKind(Enum):
    """Where a task's rows come from; results of different sources are never pooled."""

    mini = "mini"
    local = "local"
    hub = "hub"


class TokenizerKind(Enum):
    """Byte vocabulary (256 ids) or the RWKV World vocabulary (65,536 ids)."""

    byte = "byte"
    world = "world"


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


class BaselineRule(Enum):
    """Whether a sweep adds the no_fs run that each arm is compared with."""

    auto = "auto"
    none = "none"


class StageRule(Enum):
    """How a staged sweep chooses the arms that go on, see ``fseed.sweep.decisions``."""

    race = "race"  # paired intervals over seeds
    halving = "halving"  # the best half of each rung
    threshold = "threshold"  # the earlier protocol: a mean difference on few seeds


class LoggerKind(Enum):
    """Extra experiment tracker beside the run directory."""

    none = "none"
    tensorboard = "tensorboard"


@dataclass
class TaskConfig:
    """What is asked: builder, order of the sections, lengths in tokens."""

    name: str = MISSING
    order: str = MISSING  # of the sections, or an alias; each task has its own, see TASKS.md
    max_length_tokens: int = MISSING  # prompt + answer
    max_answer_tokens: int = MISSING  # without the end-of-text token
    options: dict[str, Any] = field(default_factory=dict)  # of this task alone, see its YAML


@dataclass
class DataConfig:
    """Which rows are used: source, folder and the size of each split."""

    source: SourceKind = MISSING
    root: str | None = None  # folder with one subfolder per data set (local only)
    num_train: int = MISSING  # examples
    num_validation: int = MISSING  # examples
    num_test: int = MISSING  # examples, read with budget.test alone
    seed: int = 0  # chooses the rows of each split; equal for all seeds and arms


@dataclass
class FutureSeedConfig:
    """Whether Future-Seed is on at all; its options stand in the groups below."""

    mode: Mode = MISSING
    allow_noop: bool = False  # let lstart >= num_layers seed no layer


@dataclass
class VariantConfig:
    """Gate and transform of the carried state."""

    gate: Gate = Gate.scalar
    norm: Norm = Norm.rms
    detach: bool = True
    clip: float = 1.0  # bound on every entry; 0 turns it off
    seed_scale: float = 1.0
    head_init: float = -3.0  # gate logit per head (head only)
    head_lr: float = 5e-4  # (head only)
    input_lr: float = 5e-4  # learning rate of w and b (inputgate only)


@dataclass
class AlphaConfig:
    """Gate logit per layer: start value and learning rate."""

    init: float = -2.0
    lr: float = 0.0  # 0 freezes the gate


@dataclass
class ScheduleConfig:
    """Depth schedule of the strength, from the first seeded layer to the last."""

    kind: ScheduleKind = ScheduleKind.none
    low: float = 1.0
    high: float = 1.0


@dataclass
class ControlConfig:
    """Control arm, mechanism section 4."""

    kind: ControlKind = ControlKind.none
    state_lr: float = 1e-2  # learning rate of the constant state (learned_state only)


@dataclass
class ModelConfig:
    """Backbone: a checkpoint, or a shape that is initialised from the seed."""

    name: str = MISSING
    weights: str | None = None  # official .pth, safetensors or a Hugging Face folder
    needs_weights: bool = False  # null weights are an error, not a random start
    tokenizer: TokenizerKind = MISSING
    vocab_file: str | None = None  # World vocabulary; null: the copy in the rwkv package
    num_layers: int | None = None  # null with weights: read off the checkpoint
    width: int | None = None  # C
    head_size: int | None = None  # N: 16, 32 or 64
    ffn_width: int | None = None
    decay_rank: int | None = None
    in_context_rank: int | None = None
    value_rank: int | None = None
    gate_rank: int | None = None
    vocab_size: int | None = None
    allow_above_uniform: bool = False  # train from weights worse than a uniform guess


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
class MbppConfig:
    """Execution of generated programs (task mbpp)."""

    allow_unsandboxed: bool = False  # run programs even with all your rights where nothing isolates
    num_samples: int = 0  # sampled programs a problem for pass@k, beside the greedy one
    temperature: float = 0.8  # of the samples
    top_p: float = 0.95  # of the samples
    timeout_seconds: float = 10.0  # of one program with its tests
    memory_mib: int = 1024  # of one program


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
    micro_batch_size: int | None = None  # examples a backward pass; null: the whole batch
    num_threads: int | None = None  # CPU threads; null: all cores
    progress: bool = True


@dataclass
class LoggerConfig:
    """Tracker beside the records; never changes a number."""

    kind: LoggerKind = LoggerKind.none


@dataclass
class SweepConfig:
    """What happens around the runs of one command."""

    name: str = "default"  # folder below output.root
    stage: str = "plain"  # label in records and tables
    baseline: BaselineRule = BaselineRule.auto
    dry_run: bool = False  # print the plan, run nothing
    diff_against: str | None = None  # folder of an earlier sweep: print what changes against it
    # of a staged sweep (hydra/sweeper=staged, or sweep=staged for short)
    rule: StageRule = StageRule.race
    wanted_gain: float = 0.01  # smallest gain worth having, a fraction: 0.01 is 1 pp
    significance: float = 0.05  # of one stage, shared by its rungs
    keep_fraction: float = 0.5  # of the arms at each rung (halving)
    quick_threshold: float = 0.001  # mean difference that passes quick (threshold)
    medium_threshold: float = 0.002  # and medium (threshold)
    quick_seeds: int = 3
    medium_seeds: int = 3
    confirm_seeds: int = 12  # at least 5
    controls: bool = True  # run every control beside each arm of the confirm stage


@dataclass
class OutputConfig:
    """Where results go."""

    root: str | None = None  # null: $FSEED_OUTPUTS, else outputs/ of the checkout, else ./outputs
    save_weights: bool = False  # keep the trained weights and gates
    keep_checkpoint: bool = False  # keep the last optimiser checkpoint of a finished run


@dataclass
class RunConfig:
    """Root: everything one run needs, resolved."""

    task: TaskConfig = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    fs: FutureSeedConfig = MISSING
    fs_variant: VariantConfig = field(default_factory=VariantConfig)
    lstart: int = 1  # first seeded layer, 1..num_layers-1 (layers are numbered from 0)
    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    seed: int = 0  # of the initial weights, the batch order and sampled programs
    weights: str | None = None  # short for model.weights
    budget: BudgetConfig = MISSING
    mbpp: MbppConfig = field(default_factory=MbppConfig)
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
