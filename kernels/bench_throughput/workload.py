"""What every trainer gets alike: weights, batches of real text, learning rate.

Each example is L tokens of the task's own text: the last tenth is the answer and ends with the
end-of-text token. ``prepare`` writes weights and text once; every worker reads the same files.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from bench_throughput.jobs import CHECK_STEPS, Job, Shape
from fseed.compose.loader import Composer, hydra_session
from fseed.config.schema import RunConfig
from fseed.models.checkpoint import save_safetensors
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.tokenizer import build_tokenizer
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import plan_run
from fseed.tasks.base import EncodedExample
from fseed.tasks.registry import TaskData, load_task_data
from fseed.training import attempt
from fseed.training.batch_plan import BatchPlan
from fseed.training.batches import StepKeyedBatches
from fseed.training.build import build_model

ANSWER_SHARE = 0.1
NUM_BATCHES = 16  # different ones; then they come again in another order
SMALL = 0.02  # standard deviation of matrices that the official start leaves at zero
LEARNING_RATE, WARM_UP_STEPS = 3e-4, 10


@dataclass(frozen=True)
class Setting:
    """What all jobs of a command share. ``ragged``: by what share lengths fall below L."""

    output: Path
    model: str = "rwkv7_0b1"
    device: str = "gpu"
    vocab_file: str | None = None
    data: str | None = None
    weights: str | None = None
    ragged: float = 0.0

    @property
    def folder(self) -> Path:
        """Where the prepared files and the runs stand."""
        return self.output / "work"

    @property
    def weights_path(self) -> Path:
        """The checkpoint that every trainer starts from."""
        given = self.folder / "weights.safetensors"
        return given if self.weights is None else Path(self.weights)

    @property
    def text_path(self) -> Path:
        """The token ids of the text, one after another."""
        return self.folder / "text.npy"


def base_words(setting: Setting, *, arm: str) -> list[str]:
    """Return the overrides of a run as ``fseed.run`` takes them."""
    tokenizer = "byte" if setting.vocab_file is None else "world"
    words = [
        *("task=hotpot", f"model={setting.model}", "optim=finetune", f"fs={arm}"),
        *(f"trainer={'bf16' if setting.device == 'gpu' else 'cpu'}", "trainer.progress=false"),
        *(f"optim.lr={LEARNING_RATE}", f"optim.warmup_steps={WARM_UP_STEPS}"),
        *(f"model.tokenizer={tokenizer}", "model.allow_above_uniform=true"),
        *("budget.generate=false", "data.num_train=64", "data.num_validation=8"),
        *("sweep.name=bench", f"output.root={setting.folder / 'runs'}"),
    ]
    if setting.vocab_file is not None:
        words.append(f"model.vocab_file={setting.vocab_file}")
    if setting.data is not None:
        words += ["data=local", f"data.root={setting.data}"]
    return words


def plan(
    setting: Setting, shape: Shape, *, arm: str, steps: int, words: Sequence[str]
) -> PlannedRun:
    """Return the planned run of a shape; ``words`` come last."""
    sizes = [
        *(f"budget.steps={steps}", f"budget.batch_size={shape.batch}"),
        *(f"budget.eval_batch_size={shape.batch}", f"weights={setting.weights_path}"),
        f"task.max_length_tokens={max(1024, shape.length)}",
        f"task.max_answer_tokens={max(48, shape.length // 8)}",
    ]
    return _plan([*base_words(setting, arm=arm), *sizes, *words])


def _plan(words: Sequence[str]) -> PlannedRun:
    return plan_run(_composer().compose(words)).run


@cache
def _composer() -> Composer:
    with hydra_session() as hydra:
        return Composer(hydra.config_loader)


def prepare(setting: Setting, *, num_examples: int) -> None:
    """Write the weights and the text; ``num_examples`` rows of the task are read for it."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    sizes = ["budget.steps=1", "budget.batch_size=1", "budget.eval_batch_size=1"]
    config = _plan([*base_words(setting, arm="no_fs"), *sizes]).config
    if setting.weights is None:
        model = build_model(config)
        start_like_trained(model, generator=torch.Generator().manual_seed(config.seed))
        save_safetensors(model, setting.weights_path)
    np.save(setting.text_path, read_text(config, num_examples=num_examples))


def read_text(config: RunConfig, *, num_examples: int) -> np.ndarray:
    """Return the token ids of the task's training examples, one behind another."""
    tokenizer = build_tokenizer(config.model.tokenizer, vocab_file=config.model.vocab_file)
    rows = replace(config.data, num_train=num_examples)
    long = replace(config.task, max_length_tokens=8192)
    data = load_task_data(long, rows, tokenizer)
    ids = [token for e in data.splits["train"] for token in (*e.prompt_ids, *e.answer_ids)]
    return np.array(ids, dtype=np.int32)


@torch.no_grad()
def start_like_trained(model: RWKV7, *, generator: torch.Generator) -> None:
    """Replace what a random start has and trained weights have not.

    Half the matrices begin at zero, and embeddings so small that their gradient is all there is to
    the norm: neither would show a wrong gradient elsewhere.
    """
    model.emb.weight.uniform_(-0.5, 0.5, generator=generator)
    for parameter in model.parameters():
        if parameter.ndim >= 2 and not parameter.any():
            parameter.normal_(0.0, SMALL, generator=generator)


def cut_examples(
    text: np.ndarray, shape: Shape, *, num_batches: int, end_of_text: int, ragged: float
) -> list[EncodedExample]:
    """Cut the text into examples of L tokens, beginning again where it ends."""
    count = shape.batch * num_batches
    rng = np.random.default_rng(0)
    shares = 1.0 - ragged * rng.random(count)
    places = np.arange(shape.length)
    examples = []
    for number, share in enumerate(shares):
        ids = text[(places + number * shape.length) % len(text)].tolist()
        length = max(2, round(share * shape.length))
        answer = max(1, round(ANSWER_SHARE * length))
        examples.append(
            EncodedExample(
                example_id=f"text-{number}",
                kind="text",
                prompt_ids=ids[: length - answer],
                answer_ids=[*ids[length - answer : length - 1], end_of_text],
                answers=("",),
            )
        )
    return examples


def num_batches(job: Job) -> int:
    """Return how many different batches a job reads; its curves read each once."""
    return job.steps if job.purpose == "curves" else NUM_BATCHES


def build_examples(
    setting: Setting, config: RunConfig, shape: Shape, *, num_batches: int
) -> list[EncodedExample]:
    """Return the training examples of a shape: the same in every worker."""
    tokenizer = build_tokenizer(config.model.tokenizer, vocab_file=config.model.vocab_file)
    return cut_examples(
        np.load(setting.text_path),
        shape,
        num_batches=num_batches,
        end_of_text=tokenizer.end_of_text,
        ragged=setting.ragged,
    )


def build_batches(
    examples: Sequence[EncodedExample], config: RunConfig, *, steps: int
) -> Iterator[PromptAnswer]:
    """Yield the batches of ``steps`` steps, on the CPU, as a run takes them."""
    batch_plan = BatchPlan(examples, seed=config.seed, batch_size=config.budget.batch_size)
    return islice(StepKeyedBatches(batch_plan), steps)


def fingerprint(examples: Sequence[EncodedExample], config: RunConfig) -> str:
    """Return a digest of the true tokens of the first batches."""
    digest = hashlib.sha256()
    for batch in build_batches(examples, config, steps=CHECK_STEPS):
        for ids, lengths in (
            (batch.prompt, batch.prompt_lengths),
            (batch.answer, batch.answer_lengths),
        ):
            for row, length in zip(ids, lengths, strict=True):
                digest.update(row[: int(length)].numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def given_examples(examples: list[EncodedExample]) -> Iterator[None]:
    """Let an attempt train on ``examples``; all else of its data stays what the task gives."""
    load = attempt.load_examples

    def load_given(*args: object, **options: object) -> TaskData:
        data = load(*args, **options)  # pyright: ignore[reportArgumentType] passed on as they come
        return replace(data, splits={**data.splits, "train": examples})

    attempt.load_examples = load_given
    try:
        yield
    finally:
        attempt.load_examples = load
