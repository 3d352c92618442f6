"""The list of tasks as Markdown, from the code: ``python -m fseed.tasks.task_list > TASKS.md``."""

from collections.abc import Iterator
from dataclasses import fields

from fseed.tasks.base import Task
from fseed.tasks.registry import TASKS

HEAD = """\
# Tasks

Printed by `python -m fseed.tasks.task_list`; do not edit. Choose one with `task=NAME`, look at its
data with `python -m fseed.data task=NAME`, set its options with `task.options.NAME=VALUE`. The
first order is the default of the task, the first metric the primary one; metrics marked G are of
freely generated answers, the others of teacher forcing.
"""


def render_list() -> str:
    """Return the whole page."""
    return "\n".join(
        [HEAD, *_overview(), *(line for task in TASKS.values() for line in _page(task))]
    )


def _overview() -> Iterator[str]:
    yield "| task | what is asked | orders | primary metric |"
    yield "|---|---|---|---|"
    for task in TASKS.values():
        orders = ", ".join(f"`{order}`" for order in task.orders)
        name = f"[`{task.name}`](#{task.name})"
        yield f"| {name} | {task.summary} | {orders} | {task.primary_metric} |"


def _page(task: Task) -> Iterator[str]:
    yield f"\n## {task.name}\n"
    yield f"{task.summary} Objective: {task.objective.value}.\n"
    for order, sections in task.orders.items():
        aliases = [alias for alias, name in task.order_aliases.items() if name == order]
        also = f" (also {', '.join(aliases)})" if aliases else ""
        yield f"- order `{order}`{also}: {', '.join(sections)}"
    for name, dataset in task.datasets.items():
        hub = "not on the hub"
        if dataset.hub_id is not None:
            config = f", {dataset.hub_config}" if dataset.hub_config else ""
            hub = f"hub `{dataset.hub_id}`{config}"
        yield f"- data set `{name}`: {hub}; local folder `{dataset.folder}/`"
    for field in fields(task.options):
        yield f"- option `{field.name}`: {field.default!r} where the option file does not say"
    for name, metric in task.metrics.items():
        mark = " (G)" if metric.is_generated else ""
        yield f"- metric `{name}`{mark}: {metric.sentence}"


if __name__ == "__main__":
    print(render_list())
