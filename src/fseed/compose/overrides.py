"""The words of a command line: checked against groups, keys and types before anything is composed.

Hydra finds most of these mistakes too, after more work and in more lines.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_type_hints

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fseed.config.options import OFF_OPTIONS, conf_dir, read_groups
from fseed.config.schema import RunConfig
from fseed.errors import UserError, did_you_mean
from fseed.tasks.options import check_name
from fseed.tasks.registry import get_task

TASK_OPTIONS = "task.options."

_OFF_WORDS = ("off", "no", "none", "null", "false", "0")


def parse_overrides(
    texts: Sequence[str], *, multirun: bool, config_loader: ConfigLoader
) -> list[Override]:
    """Return the parsed overrides after checking each of them.

    Raises:
        UserError: for a word that is no override, an unknown group, option or key, a wrong type, a
            missing value, a list where one choice is meant, or several values without ``-m``.
    """
    checker = _Checker(config_loader, multirun=multirun)
    overrides = [_parse(text, config_loader) for text in texts]
    for override in overrides:
        checker.check(override)
    _check_repetition(overrides)
    _check_task_options(checker.option_overrides, overrides)
    return overrides


def expand_sweep(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of every point of the grid, in the order of the command line.

    Of two overrides of one key the later one counts.
    """
    points: list[list[str]] = [[]]
    for override in {override.get_key_element(): override for override in overrides}.values():
        key = override.get_key_element()
        values = list(_values_text(override))
        if not values:
            raise UserError(f"{override.input_line} matches nothing, so the sweep has no runs")
        points = [[*point, f"{key}={value}"] for point in points for value in values]
    return points


def schema_types() -> dict[str, Any]:
    """Return the type of every dotted key of the configuration, nodes included."""
    return dict(_walk_types(RunConfig, ""))


class _Checker:
    """One override after another, against the folder of options and the schema."""

    def __init__(self, config_loader: ConfigLoader, *, multirun: bool) -> None:
        self.config_loader = config_loader
        self.multirun = multirun
        self.types = schema_types()
        self.groups = read_groups()
        self.option_overrides: list[Override] = []

    def check(self, override: Override) -> None:
        if override.is_hydra_override():
            return
        text, key = str(override.input_line), override.key_or_group
        if override.type is not OverrideType.CHANGE:
            raise UserError(
                f"{text}: every key exists already; write {key}=VALUE without a sign before it"
            )
        if override.is_sweep_override() and not self.multirun:
            raise UserError(f"{text} lists several values: add -m to run them all")
        if key in self.groups:
            self._check_group(override)
        elif key in self.types:
            self._check_key(override)
        elif key.startswith(TASK_OPTIONS):
            self.option_overrides.append(override)
        else:
            self._refuse_unknown(override)

    def _check_group(self, override: Override) -> None:
        group = override.key_or_group
        for value in _values(override):
            if isinstance(value, list | dict):
                raise UserError(
                    f"{override.input_line}: {group} takes the name of one option\n"
                    f"to run several of them: {group}=A,B -m"
                )
            if value == "":
                raise UserError(f"{group}= has no value; options: {self._options_text(group)}")
            if value is None and group == "experiment":
                continue
            self._check_option(group, _text(value))

    def _check_option(self, group: str, option: str) -> None:
        if option in self.groups[group]:
            return
        known = self.config_loader.get_group_options(group)
        if option in known:  # of a folder given by --config-dir
            return
        hint = did_you_mean(option, known)
        if option in _OFF_WORDS and group in OFF_OPTIONS:
            hint = f"; did you mean {OFF_OPTIONS[group]}?"
        raise UserError(
            f"{group}={option}: no such option{hint}\noptions: {self._options_text(group)}"
        )

    def _check_key(self, override: Override) -> None:
        key, kind = override.key_or_group, self.types[override.key_or_group]
        if is_dataclass(kind):
            inner = ", ".join(f"{key}.{field.name}" for field in fields(kind))
            raise UserError(f"{override.input_line}: {key} holds several keys: {inner}")
        if key == TASK_OPTIONS.removesuffix("."):
            raise UserError(f"{override.input_line}: give one by one, {key}.NAME=VALUE")
        for value in _values(override):
            if value in ("", "???"):
                raise UserError(f"{key}= has no value; expected {_describe(kind)}")
            check_type(key, value, kind)

    def _refuse_unknown(self, override: Override) -> None:
        key = override.key_or_group
        if "/" in key:
            raise UserError(f"{key}: no such group; groups: {', '.join(self.groups)}")
        same_leaf = [name for name in self.types if name.split(".")[-1] == key.split(".")[-1]]
        known = list(dict.fromkeys([*self.groups, *self.types]))
        if same_leaf and key not in known:
            hint = f"; did you mean {', '.join(same_leaf[:3])}?"
        else:
            hint = did_you_mean(key, known)
        what = "key" if "." in key else "group or key"
        raise UserError(f"{override.input_line}: no such {what}{hint}{_help(hint)}")

    def _options_text(self, group: str) -> str:
        names = list(self.groups[group])
        return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])}, ..."


def check_type(key: str, value: Any, kind: Any) -> None:
    """Raise UserError unless ``value`` has the type of ``key``; interpolations pass."""
    if isinstance(value, str) and "${" in value:
        return
    parent, _, leaf = key.rpartition(".")
    try:
        _typed_node(parent)[leaf] = value
    except OmegaConfBaseException:
        hint = f"\nto run several values: {key}=A,B -m" if isinstance(value, list) else ""
        raise UserError(f"{key}={_text(value)}: expected {_describe(kind)}{hint}") from None


@cache
def _typed_node(parent: str) -> Any:
    """Return a section to try values in; a sweep tries thousands."""
    return OmegaConf.structured(schema_types()[parent] if parent else RunConfig)


def _parse(text: str, config_loader: ConfigLoader) -> Override:
    if re.fullmatch(r"[\w./@-]+", text):
        owners = [group for group, options in read_groups().items() if text in options]
        name = owners[0] if owners else text
        value = text if owners else "VALUE"
        raise UserError(f"{text} has no value; write {name}={value}")
    if text.startswith("="):
        raise UserError(f"{text!r} is not of the form key=value")
    try:
        return OverridesParser.create(config_loader=config_loader).parse_overrides([text])[0]
    except HydraException as error:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{text!r} is not of the form key=value") from error
        raise UserError(
            f"cannot read {text}\nquote a value with special characters: \"{key}='{value}'\""
        ) from error


def _check_repetition(overrides: Sequence[Override]) -> None:
    seen: dict[str, Override] = {}
    for override in overrides:
        key = override.get_key_element()
        if key in seen:
            raise UserError(
                f"{key} is given twice: {seen[key].input_line} and {override.input_line}\n"
                f"a sweep lists its values in one word: {key}=A,B -m"
            )
        seen[key] = override


def _check_task_options(given: Sequence[Override], overrides: Sequence[Override]) -> None:
    """Refuse an option that a task named on the command line does not have."""
    chosen = next((each for each in overrides if each.key_or_group == "task"), None)
    files = [str(value) for value in _values(chosen)] if chosen is not None else []
    for file in files:
        path = conf_dir() / "task" / f"{file}.yaml"
        if path.is_file():
            task = get_task(yaml.safe_load(path.read_text("utf-8"))["name"])
            for override in given:
                name = override.key_or_group.removeprefix(TASK_OPTIONS)
                check_name(task, name, shown=str(override.input_line))


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        with _as_user_error(override):
            return [_plain(value) for value in override.sweep_iterator()]
    return []  # an interval: only sweepers that sample can use it


def _values_text(override: Override) -> Iterator[str]:
    if not override.is_sweep_override():
        yield override.get_value_element_as_str()
    elif override.is_discrete_sweep():
        with _as_user_error(override):
            yield from override.sweep_string_iterator()
    else:
        raise UserError(
            f"{override.input_line}: an interval cannot be enumerated; list values, or use range()"
        )


class _as_user_error:
    """Turn what Hydra says about a sweep function into a UserError with the word it is about."""

    def __init__(self, override: Override) -> None:
        self.override = override

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # a step of 0 is a ValueError
        if isinstance(error, HydraException | ValueError) and not isinstance(error, UserError):
            raise UserError(f"{self.override.input_line}: {error}") from error


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return "[" + ",".join(_text(_plain(item)) for item in value) + "]"
    return str(value)


def _walk_types(node: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(node).items():
        yield prefix + name, kind
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _walk_types(kind, f"{prefix}{name}.")


def _describe(kind: Any) -> str:
    if isinstance(kind, UnionType):
        inner = [_describe(part) for part in get_args(kind) if part is not type(None)]
        return " or ".join([*inner, "null"])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}[kind]


def _help(hint: str) -> str:
    return "" if hint else "; all of them: python -m fseed.run --cfg job"
