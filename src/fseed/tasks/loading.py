"""From a configured source to encoded examples, with every count checked on the way."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from fseed.config.schema import DataConfig, MbppConfig, SourceKind, TaskConfig
from fseed.errors import UserError
from fseed.tasks.base import EncodedExample, Row, RowProblem, Setting, Task, Tokenizer
from fseed.tasks.baselines import constant_baseline, copy_baseline
from fseed.tasks.encoding import encode_example
from fseed.tasks.notes import MAX_CANDIDATES, NotePool
from fseed.tasks.preflight import Preflight, describe_counts, report_split
from fseed.tasks.sources import SPLITS, fingerprint_source, open_source, wanted_examples
from fseed.tasks.splits import Pool, build_pools, hash_fraction

MIN_BLOCK_ROWS = 64


@dataclass(frozen=True)
class TaskData:
    """Everything a run needs from its task.

    The baselines are scored on validation (on the first split that is not train when validation was
    not asked for) and are empty without train; ``copy_baseline`` also where copying means nothing.
    """

    splits: dict[str, list[EncodedExample]]
    preflight: Preflight
    data_hash: str
    constant_baseline: dict[str, float]
    copy_baseline: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A task with its resolved order and options, and the configuration of its rows."""

    task: Task
    order: str
    options: Any
    config: TaskConfig
    data: DataConfig
    splits: Sequence[str]

    def setting(self, split: str) -> Setting:
        """Return what the rows and examples of ``split`` depend on."""
        return Setting(split=split, order=self.order, options=self.options, seed=self.data.seed)


def load(request: Request, tokenizer: Tokenizer, *, scoring: MbppConfig) -> TaskData:
    """Read, check, choose and encode the rows of the splits; raises ``UserError``."""
    _check_options(request.data, request.splits)
    pools = _open_pools(request)
    examples: dict[str, list[EncodedExample]] = {}
    reports = {}
    for split in request.splits:
        build = PoolBuild(request, split, pools[split])
        examples[split], rejected = _encode_pool(request, build, tokenizer)
        reports[split] = report_split(pools[split], examples[split], rejected)
        _check_count(request, split, len(examples[split]), pools[split], rejected)
    constant, copied = score_baselines(request.task, examples, tokenizer=tokenizer, scoring=scoring)
    return TaskData(
        splits=examples,
        preflight=Preflight(request.task.name, request.data.source.value, request.order, reports),
        data_hash=fingerprint(request),
        constant_baseline=constant,
        copy_baseline=copied,
    )


def check(request: Request) -> None:
    """Raise ``UserError`` for data that cannot serve, as far as it shows without tokenizing."""
    _check_options(request.data, request.splits)
    if request.data.source is SourceKind.mini:
        for split in request.splits:
            # as many rows are generated as are wanted; the first shows whether options fit
            next(request.task.generate_mini(request.setting(split)))
        return
    for split, pool in _open_pools(request).items():
        if split in request.splits:
            _check_count(request, split, len(pool.entries), pool, Counter())


def fingerprint(request: Request) -> str:
    """Return the SHA-256 of the source's rows; raises ``UserError``."""
    dataset = request.task.dataset(request.options)
    return fingerprint_source(request.task, dataset, request.data)


@dataclass
class PoolBuild:
    """What builders ask for (``base.Build``), from the rows of one split."""

    request: Request
    split: str
    pool: Pool

    @property
    def setting(self) -> Setting:
        """Return split, order, options and seed."""
        return self.request.setting(self.split)

    def generator(self, row_id: str) -> np.random.Generator:
        """Return the random generator of one row."""
        row_key = int(hash_fraction(row_id) * 2**52)
        return np.random.default_rng([*self._split_key, row_key])

    def draw_notes(self, row_id: str, *, num: int, own: Sequence[str]) -> list[str]:
        """Return up to ``num`` notes that overlap with no text in ``own``."""
        # another stream than the one the builder itself may use
        rng = self.generator(f"notes of {row_id}")
        return self._notes.draw(row_id, num=num, own=own, rng=rng)

    @cached_property
    def _notes(self) -> NotePool:
        task = self.request.task
        if task.notes is None:
            raise ValueError(f"task {task.name} has no rule for notes")
        is_mini = self.request.data.source is SourceKind.mini
        rows = self._first_generated() if is_mini else self._drawn_from_pool()
        return NotePool(task.notes, rows, self.setting)

    def _first_generated(self) -> list[tuple[str, Row]]:
        """Return the beginning of the stream: the same whatever number of examples is wanted."""
        task = self.request.task
        rows = islice(task.generate_mini(self.setting), MAX_CANDIDATES)
        return [(task.read_key(row).row_id, row) for row in rows]

    def _drawn_from_pool(self) -> list[tuple[str, Row]]:
        """Return random rows of the split, all of whose rows are in the pool."""
        entries = self.pool.entries
        rng = np.random.default_rng(self._split_key)
        chosen = [entries[place] for place in rng.permutation(len(entries))[:MAX_CANDIDATES]]
        rows = self.pool.rows.take([index for index, _ in chosen])
        return [(key.row_id, row) for (_, key), row in zip(chosen, rows, strict=True) if row]

    @property
    def _split_key(self) -> tuple[int, int]:
        """Return the part of every generator's key that the rows of the split share."""
        return self.setting.seed, SPLITS.index(self.split)


def _open_pools(request: Request) -> dict[str, Pool]:
    """Return the disjoint pools of the source."""
    source = open_source(
        request.task,
        request.data,
        order=request.order,
        options=request.options,
        splits=request.splits,
    )
    return build_pools(request.task, source)


def _check_options(data: DataConfig, splits: Sequence[str]) -> None:
    """Raise ``UserError`` for sizes and seeds out of range."""
    for split in splits:
        if split not in SPLITS:
            raise UserError(f"split {split}: unknown; splits: {', '.join(SPLITS)}")
        if wanted_examples(data, split) < 1:
            raise UserError(
                f"data.num_{split}={wanted_examples(data, split)}: must be at least 1 example"
            )
    if data.seed < 0:
        raise UserError(f"data.seed={data.seed}: must not be negative")


def _choose(request: Request, build: PoolBuild) -> list[int]:
    """Return the usable rows in the order in which they are tried.

    Stored rows are shuffled by ``data.seed``; generated ones come in the order of their stream.
    More examples extend a choice without changing its beginning.
    """
    indices = build.pool.indices
    if request.data.source is SourceKind.mini:
        return indices
    rng = np.random.default_rng([request.data.seed, SPLITS.index(build.setting.split)])
    return [indices[place] for place in rng.permutation(len(indices))]


def _encode_pool(
    request: Request, build: PoolBuild, tokenizer: Tokenizer
) -> tuple[list[EncodedExample], Counter[str]]:
    """Encode rows in order until enough fit; count the reasons of those that do not."""
    num_wanted = wanted_examples(request.data, build.setting.split)
    encode = _encoder(request, build, tokenizer)
    indices = _choose(request, build)
    examples: list[EncodedExample] = []
    rejected: Counter[str] = Counter()
    start = 0
    while len(examples) < num_wanted and start < len(indices):
        # rows are read in blocks, because each read may scan the whole file
        block = indices[start : start + max(MIN_BLOCK_ROWS, num_wanted - len(examples))]
        start += len(block)
        for row in build.pool.rows.take(block):
            if len(examples) == num_wanted:
                break
            try:
                examples.append(encode(row))
            except RowProblem as problem:
                rejected[str(problem)] += 1
    return examples, rejected


def _encoder(
    request: Request, build: PoolBuild, tokenizer: Tokenizer
) -> Callable[[Row | None], EncodedExample]:
    """Return the function from a stored row to its encoded example; it raises ``RowProblem``."""

    def encode(row: Row | None) -> EncodedExample:
        if row is None:
            raise RowProblem("malformed row")
        return encode_example(
            request.task.build_example(row, build),
            request.task.orders[request.order],
            objective=request.task.objective,
            tokenizer=tokenizer,
            max_length_tokens=request.config.max_length_tokens,
            max_answer_tokens=request.config.max_answer_tokens,
        )

    return encode


def _check_count(
    request: Request, split: str, num_found: int, pool: Pool, rejected: Counter[str]
) -> None:
    """Raise ``UserError`` when a split has fewer examples than wanted."""
    num_wanted = wanted_examples(request.data, split)
    if num_found >= num_wanted:
        return
    dropped = describe_counts(dict(pool.dropped + pool.overlap + rejected))
    raise UserError(
        f"{request.task.name}, {request.data.source.value} data: data.num_{split}={num_wanted} "
        f"examples wanted, {num_found} found in {pool.num_rows} rows (dropped: {dropped}).\n"
        + (
            f"Lower data.num_{split} to at most {num_found}, or give a larger data set."
            if num_found
            else "Check the data and task.max_length_tokens and task.max_answer_tokens."
        )
    )


def score_baselines(
    task: Task,
    examples: dict[str, list[EncodedExample]],
    *,
    tokenizer: Tokenizer,
    scoring: MbppConfig,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return constant and copy baseline on validation, or on the first evaluation split."""
    names = [name for name in ("validation", "test") if name in examples]
    if "train" not in examples or not names:
        return {}, {}
    evaluation = examples[names[0]]
    constant = constant_baseline(
        task, examples["train"], evaluation, tokenizer=tokenizer, scoring=scoring
    )
    return constant, copy_baseline(task, evaluation, tokenizer=tokenizer, scoring=scoring)
