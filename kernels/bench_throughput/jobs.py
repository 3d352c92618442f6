"""What is to be measured: shapes, trainers and the jobs a worker process does in turn."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

CHECK_STEPS = 5  # first steps whose losses and gradient norms are compared
# examples scored and decoded at a time: budget.eval_batch_size, and that of the earlier scripts
SCORED_BATCH = {"ours": 32, "unfused": 8}


@dataclass(frozen=True)
class Shape:
    """Examples of a batch and tokens of each, prompt and answer together."""

    batch: int
    length: int

    @property
    def name(self) -> str:
        """Return BxL."""
        return f"{self.batch}x{self.length}"


def parse_shape(text: str) -> Shape:
    """Read BxL.

    Raises:
        ValueError: for anything else.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"shape {text!r}; expected BxL, such as 8x4096")
    return Shape(int(parts[0]), int(parts[1]))


SHAPES = tuple(Shape(batch, length) for length in (512, 2048, 4096) for batch in (2, 8, 32))


@dataclass(frozen=True)
class Trainer:
    """One way to train. ``judge``: the trainer whose losses and gradient norms it has to have."""

    name: str
    label: str
    kind: str  # ours (what fseed.run builds) | fla | unfused
    judge: str | None = None
    arm: str = "no_fs"
    fused_loss: bool = False  # of FLA
    bf16_weights: bool = False  # of FLA: computed with instead of autocast, float32 masters beside
    module: str | None = None  # what has to be importable
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """Return the dtype of the weights that it computes with, by torch's name."""
        return "bfloat16" if self.bf16_weights else "float32"


_FLA = {"module": "fla.models", "environment": {"FLA_TILELANG": "0"}}
TRAINERS = (
    Trainer("ours", "fseed", "ours", judge="unfused"),
    Trainer("ours_fs", "fseed, Future-Seed", "ours", judge="unfused_fs", arm="scalar_l10"),
    Trainer("fla", "FLA, fused loss", "fla", judge="unfused", fused_loss=True, **_FLA),
    Trainer("fla_plain", "FLA, plain loss", "fla", judge="unfused", **_FLA),
    Trainer(
        *("fla_bf16", "FLA, fused loss, bf16 weights", "fla"),
        judge="unfused",
        fused_loss=True,
        bf16_weights=True,
        **_FLA,
    ),
    Trainer(
        *("fla_bf16_plain", "FLA, plain loss, bf16 weights", "fla"),
        judge="unfused",
        bf16_weights=True,
        **_FLA,
    ),
    Trainer("unfused", "unfused", "unfused"),
    Trainer("unfused_fs", "unfused, Future-Seed", "unfused", arm="scalar_l10"),
)
NAMES = tuple(trainer.name for trainer in TRAINERS)
DEFAULT_TRAINERS = tuple(name for name in NAMES if name != "unfused_fs")  # it only judges


def find_trainer(name: str) -> Trainer:
    """Return the trainer called ``name``.

    Raises:
        ValueError: for one that does not exist.
    """
    if name not in NAMES:
        raise ValueError(f"trainer {name!r}; allowed: {', '.join(NAMES)}")
    return TRAINERS[NAMES.index(name)]


def why_absent(trainer: Trainer) -> str | None:
    """Return why a trainer cannot run here, where that is plain without importing it."""
    if trainer.module is None:
        return None
    for name in (trainer.module.split(".")[0], trainer.module):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    return None


@dataclass(frozen=True)
class Job:
    """One thing a worker measures.

    ``purpose``: compare, check (first steps alone, no speed), memory, curves, profile or score.
    ``steps`` include ``warm_up``. ``words`` are overrides for the trainer of this project;
    ``choice`` names them in a table.
    """

    purpose: str
    trainer: str
    shape: Shape
    steps: int
    warm_up: int
    words: tuple[str, ...] = ()
    choice: str = ""

    @property
    def name(self) -> str:
        """Return what a message calls the job."""
        return " ".join(filter(None, (self.purpose, self.trainer, self.shape.name, self.choice)))


def write_jobs(jobs: Sequence[Job]) -> str:
    """Return jobs as one line of JSON."""
    return json.dumps([asdict(job) for job in jobs])


def read_jobs(text: str) -> list[Job]:
    """Return the jobs of ``write_jobs``."""
    found = []
    for values in json.loads(text):
        values |= {"shape": Shape(**values["shape"]), "words": tuple(values["words"])}
        found.append(Job(**values))
    return found


def comparison_jobs(
    trainers: Sequence[str], shapes: Sequence[Shape], *, steps: int, warm_up: int
) -> list[Job]:
    """Return the jobs that compare ``trainers``, each shape's judges first and each job once.

    A judge that is not among ``trainers`` takes the first steps only.
    """
    judges = [find_trainer(name).judge for name in trainers]
    extra = [name for name in dict.fromkeys(judges) if name is not None and name not in trainers]
    jobs = [Job("check", name, shape, CHECK_STEPS, 0) for name in extra for shape in shapes]
    return jobs + [
        Job("compare", name, shape, steps, warm_up) for name in trainers for shape in shapes
    ]


def memory_jobs(shapes: Sequence[Shape], *, steps: int, warm_up: int) -> list[Job]:
    """Return a job for every value of ``trainer.activation_checkpointing`` and every shape."""
    values = checkpointing_values()
    key = "trainer.activation_checkpointing"
    return [
        Job("memory", "ours", shape, steps, warm_up, (f"{key}={value}",), value)
        for shape in shapes
        for value in values
    ]


def checkpointing_values() -> list[str]:
    """Return what ``trainer.activation_checkpointing`` may be: read off its type."""
    from enum import Enum
    from typing import get_type_hints

    from fseed.config.schema import TrainerConfig

    kind: Any = get_type_hints(TrainerConfig)["activation_checkpointing"]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    return ["false", "true"]


def profile_jobs(
    shapes: Sequence[Shape], *, warm_up: int, profiled: int, with_graphs: bool
) -> list[Job]:
    """Return the profile of the step as it runs, and of the same step kernel by kernel.

    ``with_graphs``: a step may be a graph, and a replayed graph tells no operator behind its
    kernels.
    """
    words: list[tuple[tuple[str, ...], str]] = [((), "as trained")]
    if with_graphs:
        words.append((("trainer.step=eager",), "kernel by kernel"))
    return [
        Job("profile", "ours", shape, warm_up + profiled, warm_up, *each)
        for shape in shapes
        for each in words
    ]


def score_jobs(shapes: Sequence[Shape], *, steps: int, warm_up: int) -> list[Job]:
    """Return the jobs that time scoring and decoding of both sides of the projection.

    Each at its own batch size, or at the next smaller one of ``shapes``.
    """
    sizes = {shape.batch for shape in shapes}
    found = []
    for name, wanted in SCORED_BATCH.items():
        batch = max((size for size in sizes if size <= wanted), default=min(sizes))
        found += [
            Job("score", name, shape, steps, warm_up) for shape in shapes if shape.batch == batch
        ]
    return found


def renamed(jobs: Sequence[Job], purpose: str) -> list[Job]:
    """Return the jobs under another purpose."""
    return [replace(job, purpose=purpose) for job in jobs]
