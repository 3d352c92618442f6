"""The tasks by name, and the functions through which the rest of the project uses them."""

from collections.abc import Sequence

from fseed.config.schema import DataConfig, TaskConfig
from fseed.errors import UserError, did_you_mean
from fseed.tasks import loading
from fseed.tasks.base import Task, Tokenizer
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.loading import TaskData
from fseed.tasks.sources import fingerprint_source

TASKS: dict[str, Task] = {task.name: task for task in (HOTPOT,)}

PLAIN_SPLITS = ("train", "validation")


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
        raise UserError(
            f"task.order={order}: unknown for {task_name}{did_you_mean(order, allowed)}\n"
            f"Orders: {', '.join(task.orders)} (also {', '.join(task.order_aliases)})"
        )
    return name


def load_task_data(
    task: TaskConfig,
    data: DataConfig,
    tokenizer: Tokenizer,
    *,
    splits: Sequence[str] = PLAIN_SPLITS,
) -> TaskData:
    """Return the encoded examples of ``splits`` with their report, hash and baseline.

    ``splits`` are of train, validation and test; a plain run never reads test. Raises ``UserError``
    for missing or unreadable data and for too few usable rows.
    """
    return loading.load(
        get_task(task.name),
        resolve_order(task.name, task.order),
        config=task,
        data=data,
        tokenizer=tokenizer,
        splits=splits,
    )


def check_data(task: TaskConfig, data: DataConfig, *, splits: Sequence[str] = PLAIN_SPLITS) -> None:
    """Check folder, files, columns and row counts without a tokenizer; raises ``UserError``.

    Rows that turn out too long once tokenized are counted later, by ``load_task_data``.
    """
    resolve_order(task.name, task.order)
    loading.check(get_task(task.name), data=data, splits=splits)


def data_fingerprint(task: TaskConfig, data: DataConfig) -> str:
    """Return a SHA-256 hex digest of the rows' source, without reading rows.

    Local: the bytes of the files. Mini: version of the generator and ``data.seed``. Hub: id, config
    and revision. Raises ``UserError`` when there is nothing to read.
    """
    return fingerprint_source(get_task(task.name), data)
