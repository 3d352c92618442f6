"""The options of a task: from the mapping in its YAML to an instance of its option class."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from fseed.errors import UserError, did_you_mean
from fseed.tasks.base import Task


def parse_options(task: Task, given: Mapping[str, Any]) -> Any:
    """Return the option object of ``task`` with the values in ``given``.

    Raises ``UserError`` for an unknown name, a value of another type, or one out of range.
    """
    types = get_type_hints(task.options)
    values: dict[str, Any] = {}
    for name, value in given.items():
        where = f"task.options.{name}={value}"
        check_name(task, name, shown=where)
        if not _fits(value, types[name]):
            raise UserError(f"{where}: must be {_describe(types[name])}")
        values[name] = _convert(value, types[name])
    try:
        options = task.options(**values)
    except ValueError as error:
        raise UserError(f"{task.name}: task.options.{error}") from error
    _check_dataset(task, options)
    return options


def check_name(task: Task, name: str, *, shown: str) -> None:
    """Raise ``UserError`` unless ``task`` has the option; ``shown`` is what the user wrote."""
    names = [field.name for field in fields(task.options)]
    if name not in names:
        known = f"options: {', '.join(names)}" if names else "it has no options"
        raise UserError(f"{shown}: unknown for {task.name}{did_you_mean(name, names)}\n{known}")


def _check_dataset(task: Task, options: Any) -> None:
    name = getattr(options, "dataset", None)
    if name is not None and name not in task.datasets:
        raise UserError(
            f"task.options.dataset={name}: unknown for {task.name}"
            f"{did_you_mean(name, task.datasets)}\ndata sets: {', '.join(task.datasets)}"
        )


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (str, bool):
        return isinstance(value, kind)
    # tuple[int, ...], given as a list
    return isinstance(value, list | tuple) and all(_fits(item, int) for item in value)


def _convert(value: Any, kind: Any) -> Any:
    """Return ``value`` as its kind, so that 1 and 1.0, [1] and (1,) are the same option."""
    if kind is float:
        return float(value)
    return value if kind in (int, str, bool) else tuple(value)


def _describe(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    return words.get(kind, "a list of whole numbers")
