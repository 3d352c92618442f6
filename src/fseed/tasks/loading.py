"""From a configured source to encoded examples, with every count checked on the way."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fseed.config.schema import DataConfig, SourceKind, TaskConfig
from fseed.errors import UserError
from fseed.tasks.base import EncodedExample, Row, RowProblem, Task, Tokenizer
from fseed.tasks.baselines import constant_baseline
from fseed.tasks.encoding import encode_example
from fseed.tasks.preflight import Preflight, describe_counts, report_split
from fseed.tasks.sources import SPLITS, fingerprint_source, open_source, wanted_examples
from fseed.tasks.splits import Pool, build_pools

MIN_BLOCK_ROWS = 64


@dataclass(frozen=True)
class TaskData:
    """Everything a run needs from its task.

    ``constant_baseline`` scores the best constant answer on validation (on the first split that is
    not train when validation was not asked for); it is empty without train.
    """

    splits: dict[str, list[EncodedExample]]
    preflight: Preflight
    data_hash: str
    constant_baseline: dict[str, float]


def load(
    task: Task,
    order: str,
    *,
    config: TaskConfig,
    data: DataConfig,
    tokenizer: Tokenizer,
    splits: Sequence[str],
) -> TaskData:
    """Read, check, choose and encode the rows of ``splits``; raises ``UserError``."""
    _check_options(data, splits)
    pools = _open_pools(task, data, splits)
    encode = partial(
        encode_example,
        order=task.orders[order],
        tokenizer=tokenizer,
        max_length_tokens=config.max_length_tokens,
        max_answer_tokens=config.max_answer_tokens,
    )
    examples: dict[str, list[EncodedExample]] = {}
    reports = {}
    for split in splits:
        examples[split], rejected = _encode_pool(
            pools[split],
            lambda row: encode(task.build_example(row)),
            indices=_choose(pools[split], data, split),
            num_wanted=wanted_examples(data, split),
        )
        reports[split] = report_split(pools[split], examples[split], rejected)
        _check_count(task, data, split, len(examples[split]), pools[split], rejected)
    return TaskData(
        splits=examples,
        preflight=Preflight(task.name, data.source.value, order, reports),
        data_hash=fingerprint_source(task, data),
        constant_baseline=_baseline(task, examples),
    )


def check(task: Task, *, data: DataConfig, splits: Sequence[str]) -> None:
    """Raise ``UserError`` for data that cannot serve, as far as it shows without tokenizing."""
    _check_options(data, splits)
    if data.source is SourceKind.mini:
        return  # as many rows are generated as are wanted
    for split, pool in _open_pools(task, data, splits).items():
        if split in splits:
            _check_count(task, data, split, len(pool.entries), pool, Counter())


def _open_pools(task: Task, data: DataConfig, splits: Sequence[str]) -> dict[str, Pool]:
    """Return the disjoint pools of the source."""
    return build_pools(task, open_source(task, data, splits=splits))


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


def _choose(pool: Pool, data: DataConfig, split: str) -> list[int]:
    """Return the usable rows in the order in which they are tried.

    Stored rows are shuffled by ``data.seed``; generated ones come in the order of their stream.
    More examples extend a choice without changing its beginning.
    """
    if data.source is SourceKind.mini:
        return pool.indices
    rng = np.random.default_rng([data.seed, SPLITS.index(split)])
    indices = pool.indices
    return [indices[place] for place in rng.permutation(len(indices))]


def _encode_pool(
    pool: Pool,
    encode: Callable[[Row], EncodedExample],
    *,
    indices: Sequence[int],
    num_wanted: int,
) -> tuple[list[EncodedExample], Counter[str]]:
    """Encode rows in order until ``num_wanted`` fit; count the reasons of those that do not."""
    examples: list[EncodedExample] = []
    rejected: Counter[str] = Counter()
    start = 0
    while len(examples) < num_wanted and start < len(indices):
        # rows are read in blocks, because each read may scan the whole file
        block = indices[start : start + max(MIN_BLOCK_ROWS, num_wanted - len(examples))]
        start += len(block)
        for row in pool.rows.take(block):
            if len(examples) == num_wanted:
                break
            try:
                examples.append(encode(row))
            except RowProblem as problem:
                rejected[str(problem)] += 1
    return examples, rejected


def _check_count(
    task: Task, data: DataConfig, split: str, num_found: int, pool: Pool, rejected: Counter[str]
) -> None:
    """Raise ``UserError`` when a split has fewer examples than wanted."""
    num_wanted = wanted_examples(data, split)
    if num_found >= num_wanted:
        return
    dropped = describe_counts(dict(pool.dropped + pool.overlap + rejected))
    raise UserError(
        f"{task.name}, {data.source.value} data: data.num_{split}={num_wanted} examples wanted, "
        f"{num_found} found in {pool.num_rows} rows (dropped: {dropped}).\n"
        + (
            f"Lower data.num_{split} to at most {num_found}, or give a larger data set."
            if num_found
            else "Check the data and task.max_length_tokens and task.max_answer_tokens."
        )
    )


def _baseline(task: Task, examples: dict[str, list[EncodedExample]]) -> dict[str, float]:
    """Return the constant baseline on validation, or on the first evaluation split there is."""
    names = [name for name in ("validation", "test") if name in examples]
    if "train" not in examples or not names:
        return {}
    return constant_baseline(task, examples["train"], examples[names[0]])
