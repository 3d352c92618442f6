"""From a composed configuration to one that can run: paths, sizes, rules, hashes."""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fseed.config.rules import check_model, check_values, notes
from fseed.config.schema import (
    MbppConfig,
    ModelConfig,
    ParallelStrategy,
    RunConfig,
    TokenizerKind,
)
from fseed.errors import UserError
from fseed.identity import Hashes, code_fingerprint
from fseed.models.checkpoint_header import read_shape, weights_fingerprint
from fseed.models.shape import RWKV7Shape
from fseed.models.tokenizer import find_world_vocabulary, load_world_tokenizer
from fseed.records import default_output_root
from fseed.sandbox.isolation import require_isolation
from fseed.sweep.environment import check_accelerator
from fseed.tasks.base import Objective
from fseed.tasks.registry import (
    check_data,
    data_fingerprint,
    get_task,
    resolve_options,
    resolve_order,
    splits_to_read,
    task_notes,
)


@dataclass(frozen=True)
class Prepared:
    """A configuration that passed every check, the content it points to, and remarks on it."""

    config: RunConfig
    hashes: Hashes
    notes: list[str]


class Preparer:
    """Prepare configurations; files that several of them share are read once."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._known: dict[Hashable, Any] = {}

    def prepare(self, config: RunConfig, *, runs_elsewhere: bool = False) -> Prepared:
        """Return the resolved configuration; cheap checks come before those that read files.

        ``runs_elsewhere``: another machine trains it, so that this one needs no GPU.

        Raises:
            UserError: naming the first thing that cannot work and what to do.
        """
        check_values(config)
        # nothing below reads the seed
        bare = replace(config, seed=0)
        found: Prepared = self._once(
            ("prepared", repr(bare), runs_elsewhere),
            lambda: self._prepare(bare, runs_elsewhere=runs_elsewhere),
        )
        return replace(found, config=replace(found.config, seed=config.seed))

    def _prepare(self, config: RunConfig, *, runs_elsewhere: bool) -> Prepared:
        if not runs_elsewhere:
            check_accelerator(config)
        config = resolve_paths(config)
        config = replace(config, model=self._resolve_sizes(config.model))
        check_model(config)
        build_shape(config.model)
        task = replace(
            config.task,
            order=resolve_order(config.task.name, config.task.order),
            options=resolve_options(config.task),
        )
        config = replace(config, task=task)
        check_scoring(config)
        check_micro_batches(config)
        if not get_task(task.name).executes_code:
            # what cannot change a number must not part an arm from its baseline
            config = replace(config, mbpp=MbppConfig())
        if config.trainer.micro_batch_size == config.budget.batch_size:
            config = replace(config, trainer=replace(config.trainer, micro_batch_size=None))
        if config.trainer.devices > 1 and config.trainer.strategy is ParallelStrategy.auto:
            trainer = replace(config.trainer, strategy=ParallelStrategy.ddp)
            config = replace(config, trainer=trainer)
        remarks = notes(config) + task_notes(
            task.name, has_weights=config.model.weights is not None
        )
        return Prepared(config, self._hash(config), remarks)

    def _resolve_sizes(self, model: ModelConfig) -> ModelConfig:
        if model.weights is None:
            return model
        path = model.weights
        return fill_sizes(model, self._once(("shape", path), lambda: read_shape(path)))

    def _hash(self, config: RunConfig) -> Hashes:
        task, data, model = config.task, config.data, config.model
        rows = (repr(task), repr(data), config.budget.test)

        def hash_data() -> str:
            check_data(task, data, splits=splits_to_read(config.budget))
            return data_fingerprint(task, data)

        weights = vocabulary = None
        if model.weights is not None:
            path = model.weights
            weights = self._once(("weights", path), lambda: weights_fingerprint(path))
        if model.tokenizer is TokenizerKind.world:
            vocabulary = self._once(
                ("vocabulary", model.vocab_file), lambda: _hash_vocabulary(model.vocab_file)
            )
        return Hashes(
            data=self._once(("data", *rows), hash_data),
            weights=weights,
            vocabulary=vocabulary,
            code=self._once("code", code_fingerprint),
        )

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]


def check_scoring(config: RunConfig) -> None:
    """Raise UserError when the task's primary metric could not be measured.

    Such are tasks scored by generated answers without generation, and by executing them where
    programs cannot be contained.
    """
    task = get_task(config.task.name)
    if task.metrics[task.primary_metric].is_generated and not config.budget.generate:
        raise UserError(
            f"budget.generate=false: {task.name} is scored by generated answers "
            f"({task.primary_metric}); leave budget.generate=true"
        )
    if task.executes_code:
        require_isolation(allow_unsandboxed=config.mbpp.allow_unsandboxed)


def check_micro_batches(config: RunConfig) -> None:
    """Raise UserError where a batch is no sum over its samples: the contrast of retrieval."""
    size, batch_size = config.trainer.micro_batch_size, config.budget.batch_size
    task = get_task(config.task.name)
    if task.objective is Objective.retrieval and size not in (None, batch_size):
        raise UserError(
            f"trainer.micro_batch_size={size}: {task.name} contrasts each question with the whole "
            f"batch of {batch_size}; use trainer.micro_batch_size=null"
        )
    if task.objective is Objective.retrieval and config.trainer.devices > 1:
        raise UserError(
            f"trainer.devices={config.trainer.devices}: {task.name} contrasts each question with "
            f"the whole batch of {batch_size}, which must stay on one device; use trainer.devices=1"
        )


def resolve_paths(config: RunConfig) -> RunConfig:
    """Make every path absolute: a launcher may start the job in another folder."""
    model, data, output = config.model, config.data, config.output
    root = default_output_root() if output.root is None else Path(_absolute(output.root) or "")
    return replace(
        config,
        weights=_absolute(config.weights),
        model=replace(
            model, weights=_absolute(model.weights), vocab_file=_absolute(model.vocab_file)
        ),
        data=replace(data, root=_absolute(data.root)),
        output=replace(output, root=str(root)),
    )


def fill_sizes(model: ModelConfig, shape: dict[str, int]) -> ModelConfig:
    """Return ``model`` with the sizes of its checkpoint.

    Raises:
        UserError: if the configuration says another size than the checkpoint.
    """
    wrong = [
        f"{name} is {size}, not {getattr(model, name)}"
        for name, size in shape.items()
        if getattr(model, name) not in (None, size)
    ]
    if wrong:
        raise UserError(
            f"weights {model.weights} do not fit model={model.name}: {', '.join(wrong)}\n"
            "model=custom reads every size off the file"
        )
    return replace(model, **shape)


def build_shape(model: ModelConfig) -> RWKV7Shape:
    """Return the sizes as the backbone takes them; UserError when they do not fit each other."""
    names = {field.name for field in fields(RWKV7Shape)}
    return RWKV7Shape(**{name: size for name, size in asdict(model).items() if name in names})


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _hash_vocabulary(vocab_file: str | None) -> str:
    path = find_world_vocabulary(vocab_file)
    # a file of the user's is parsed as well: a malformed one is an error before torch is loaded
    if vocab_file is not None:
        return load_world_tokenizer(path).fingerprint
    return hashlib.sha256(path.read_bytes()).hexdigest()
