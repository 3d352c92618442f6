"""What the files of the earlier work hold, as typed rows.

Scores are fractions and losses nats per answer token, as everywhere; ``best.*`` is the best of
all evaluations of a run, which is what that work reported, ``last.*`` the one after its last step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASELINES = ("baseline", "no_fs")
ACCURACY, LOSS = "best.token_accuracy", "best.loss"


def count_of(number: int, noun: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, kw_only=True)
class LegacyRun:
    """One run: a line of a record file, of a run list, or one side of a pair in a summary.

    ``stage``: probe | quick | medium | plain; ``status``: finished | failed. ``is_rounded``: the
    file tells a few digits only.
    """

    path: Path
    line: int
    study: str
    task: str | None
    stage: str
    arm: str
    seed: int | None = None
    status: str = "finished"
    reason: str | None = None
    batch_size: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    is_rounded: bool = False

    @property
    def is_baseline(self) -> bool:
        """Tell whether this is plain training."""
        return self.arm in BASELINES

    @property
    def accuracy(self) -> float | None:
        """Return the score that was reported: accuracy, or recall at 1 of a retrieval run."""
        return self.scores.get(ACCURACY, self.scores.get("best.recall_at_1"))

    @property
    def loss(self) -> float | None:
        """Return the best validation loss."""
        return self.scores.get(LOSS)

    @property
    def place(self) -> str:
        """Return path and line."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class SeedPair:
    """One seed of a study: differences as printed, arm minus baseline."""

    line: int
    seed: int
    baseline: float
    arm: float
    difference: float
    loss_difference: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """One block of a summary with several seeds: what it says, and its seed lines."""

    path: Path
    line: int
    name: str
    settings: Mapping[str, Any]
    length_tokens: int | None
    num_pairs: int
    means: Mapping[str, float]  # d_acc, d_loss, d_seq
    deviations: Mapping[str, float]
    signs: tuple[int, int, int] | None  # seeds above, equal, below
    pairs: list[SeedPair]

    @property
    def place(self) -> str:
        """Return path and line."""
        return f"{self.path}:{self.line}"

    @property
    def label(self) -> str:
        """Return the name, with the length where a file holds several."""
        return f"{self.name} L={self.length_tokens}" if self.length_tokens else self.name


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One line of a round summary; fractions were printed with four digits."""

    path: Path
    line: int
    study: str
    stage: str
    arm: str | None
    task: str | None = None
    seed: int | None = None
    batch_size: int | None = None
    accuracy: float | None = None
    difference: float | None = None
    loss: float | None = None
    is_mean: bool = False  # over seeds

    @property
    def place(self) -> str:
        """Return path and line."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One experiment of the manifest."""

    path: Path
    identifier: str
    summary: str
    role: str
    mean_difference: float | None


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with the records or with how they were compared."""

    code: str
    place: str  # path, with the line where there is one
    subject: str
    text: str


@dataclass
class Contents:
    """Everything that was read, and what could not be; ``problems`` name path and line."""

    runs: list[LegacyRun] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    told_missing: list[Flaw] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def tell_missing(self, place: str, subject: str, text: str) -> None:
        """Note a number that a file itself says is missing."""
        self.told_missing.append(Flaw("missing_numbers", place, subject, text))
