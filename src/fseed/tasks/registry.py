"""The tasks by name, and the functions through which the rest of the project uses them."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from fseed.config.schema import BudgetConfig, DataConfig, MbppConfig, TaskConfig
from fseed.errors import UserError, did_you_mean
from fseed.tasks import loading
from fseed.tasks.arc import ARC
from fseed.tasks.base import Objective, Task, Tokenizer
from fseed.tasks.cache import CacheReport, check_cached, load_cached
from fseed.tasks.fills import CONSTR, KVSORT, PERMFILL, RIGHTCOPY
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.hotpot_retrieval import HOTPOT_RETRIEVAL
from fseed.tasks.loading import Request, TaskData
from fseed.tasks.mbpp import MBPP
from fseed.tasks.options import parse_options
from fseed.tasks.protein_contact import PROTEIN_CONTACT
from fseed.tasks.protein_ss import PROTEIN_SS
from fseed.tasks.punc_restore import PUNC_RESTORE
from fseed.tasks.squad import LONGFILL, SQUAD
from fseed.tasks.sudoku import SUDOKU4, SUDOKU9

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        HOTPOT,
        HOTPOT_RETRIEVAL,
        ARC,
        SQUAD,
        LONGFILL,
        PUNC_RESTORE,
        MBPP,
        SUDOKU4,
        SUDOKU9,
        PROTEIN_SS,
        PROTEIN_CONTACT,
        RIGHTCOPY,
        CONSTR,
        KVSORT,
        PERMFILL,
    )
}

PLAIN_SPLITS = ("train", "validation")


def splits_to_read(budget: BudgetConfig) -> tuple[str, ...]:
    """Return the splits that a run with this budget reads."""
    return (*PLAIN_SPLITS, "test") if budget.test else PLAIN_SPLITS


def get_task(name: str) -> Task:
    """Return the task called ``name``; raises ``UserError`` with near names."""
    if name not in TASKS:
        raise UserError(
            f"task {name}: unknown{did_you_mean(name, TASKS)}\ntasks: {', '.join(TASKS)}"
        )
    return TASKS[name]


def resolve_order(task_name: str, order: str) -> str:
    """Return the canonical name of an order or of its alias; raises ``UserError``."""
    task = get_task(task_name)
    name = task.order_aliases.get(order, order)
    if name not in task.orders:
        allowed = [*task.orders, *task.order_aliases]
        also = f" (also {', '.join(task.order_aliases)})" if task.order_aliases else ""
        raise UserError(
            f"task.order={order}: unknown for {task_name}{did_you_mean(order, allowed)}\n"
            f"Orders: {', '.join(task.orders)}{also}"
        )
    return name


def task_notes(name: str, *, has_weights: bool) -> list[str]:
    """Return one line for what a task cannot show with the backbone at hand."""
    if get_task(name).objective is Objective.retrieval and not has_weights:
        return [
            f"{name} freezes the backbone, and the output matrices of a random one are 0: "
            "Future-Seed cannot act; give weights=PATH"
        ]
    return []


def resolve_options(config: TaskConfig) -> dict[str, object]:
    """Return every option of the task with its value, defaults filled in; raises ``UserError``."""
    return asdict(parse_options(get_task(config.name), config.options))


def load_task_data(
    task: TaskConfig,
    data: DataConfig,
    tokenizer: Tokenizer,
    *,
    splits: Sequence[str] = PLAIN_SPLITS,
    scoring: MbppConfig | None = None,
) -> TaskData:
    """Return the encoded examples of ``splits`` with their report, hash and baselines.

    ``splits`` are of train, validation and test (``splits_to_read``). ``scoring`` is for
    the tasks that execute code. Raises ``UserError`` for missing or unreadable data and for too few
    usable rows.
    """
    return load_with_report(task, data, tokenizer, splits=splits, scoring=scoring)[0]


def load_with_report(
    task: TaskConfig,
    data: DataConfig,
    tokenizer: Tokenizer,
    *,
    splits: Sequence[str] = PLAIN_SPLITS,
    scoring: MbppConfig | None = None,
) -> tuple[TaskData, CacheReport]:
    """Return what ``load_task_data`` returns, and whether it came from the cache."""
    request = build_request(task, data, splits=splits)
    scoring = scoring or MbppConfig()
    build = partial(loading.load, request, tokenizer, scoring=scoring)
    return load_cached(request, tokenizer, scoring=scoring, build=build)


def check_data(task: TaskConfig, data: DataConfig, *, splits: Sequence[str] = PLAIN_SPLITS) -> None:
    """Check folder, files, columns and row counts without a tokenizer; raises ``UserError``.

    Rows that turn out too long once tokenized are counted later, by ``load_task_data``.
    """
    request = build_request(task, data, splits=splits)
    check_cached(request, partial(loading.check, request))


def data_fingerprint(task: TaskConfig, data: DataConfig) -> str:
    """Return a SHA-256 hex digest of the rows' source, without reading rows.

    Local: the bytes of the files. Mini: version of the generator and ``data.seed``. Hub: id, config
    and revision. Raises ``UserError`` when there is nothing to read.
    """
    return loading.fingerprint(build_request(task, data, splits=()))


def build_request(task: TaskConfig, data: DataConfig, *, splits: Sequence[str]) -> Request:
    """Return the task with order and options resolved; raises ``UserError``."""
    found = get_task(task.name)
    return Request(
        task=found,
        order=resolve_order(task.name, task.order),
        options=parse_options(found, task.options),
        config=task,
        data=data,
        splits=splits,
    )
