"""Compose configurations from ``conf/`` and the words of a command line."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fseed.compose.allow_list import words_by_hand
from fseed.compose.friendly import friendly_errors
from fseed.compose.guarded_loader import GuardedLoader, guarded_resolvers
from fseed.config.labels import LABELLED_GROUPS, arm_label
from fseed.config.options import conf_dir, read_groups
from fseed.config.rules import leaves
from fseed.config.schema import Mode, RunConfig
from fseed.errors import UserError
from fseed.identity import ARM_KEYS
from fseed.records import default_output_root
from fseed.sweep.plan import Point

CONFIG_NAME = "config"
SCHEMA_NAME = "run_schema"

_SEED = re.compile(r"seed=(0|[1-9]\d{0,9})")


@contextmanager
def hydra_session(config_dirs: Sequence[str] = ()) -> Iterator[Hydra]:
    """Yield Hydra over the options of ``conf/`` and of ``config_dirs``, which add to them."""
    ConfigStore.instance().store(name=SCHEMA_NAME, node=RunConfig)
    OmegaConf.register_new_resolver("fseed_output_dir", output_dir, replace=True)
    session = initialize_config_dir(str(conf_dir()), job_name="fseed", version_base="1.3")
    with session, guarded_resolvers():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = GuardedLoader(hydra.config_loader.get_search_path())
        _add_config_dirs(hydra.config_loader, config_dirs)
        yield hydra


def output_dir(root: str | None, sweep: str) -> str:
    """Return the folder of a sweep, where Hydra's launchers may keep files of their own."""
    base = default_output_root() if root is None else Path(root).expanduser().absolute()
    return str(base / sweep)


def _add_config_dirs(loader: Any, config_dirs: Sequence[str]) -> None:
    search_path = loader.get_search_path()
    for name in config_dirs:
        folder = Path(name).expanduser().absolute()
        if not folder.is_dir():
            raise UserError(f"--config-dir {name}: no such folder")
        before_schema = SearchPathQuery(provider="schema")
        search_path.prepend("command-line", f"file://{folder}", anchor=before_schema)
    if config_dirs:
        loader.repository.initialize_sources(search_path)


class Composer:
    """Turn overrides into points; what several points need is composed once."""

    def __init__(self, loader: ConfigLoader, *, launcher: str | None = None) -> None:
        """Compose with ``loader``, as ``hydra_session`` or a sweeper's context gives it.

        ``launcher``: option of hydra/launcher, of which the jobs of a sweep hear nothing.
        """
        self.loader, self.launcher = loader, launcher
        self._groups = read_groups()
        self._bases: dict[tuple[str, ...], _Base] = {}
        self._points: dict[tuple[str, ...], Point] = {}

    def compose(self, overrides: Sequence[str]) -> Point:
        """Return the typed configuration of ``overrides`` with the label of its arm.

        Points that differ in a plain ``seed=N`` alone are composed once: nothing else reads it.

        Raises:
            UserError: when the files or overrides do not make a valid configuration.
        """
        rest = tuple(text for text in overrides if _SEED.fullmatch(text) is None)
        if len(rest) != len(overrides) - 1:
            return self._compose(overrides)
        if rest not in self._points:
            self._points[rest] = self._compose(rest)
        point = self._points[rest]
        seed = next(int(text.partition("=")[2]) for text in overrides if _SEED.fullmatch(text))
        return replace(
            point,
            config=replace(point.config, seed=seed),
            choices=dict(point.choices),
            overrides=_task_overrides(overrides),
        )

    def _compose(self, overrides: Sequence[str]) -> Point:
        with friendly_errors():
            base, values = self._parse(overrides)
            content = copy.deepcopy(base.content)
            for override in values:
                OmegaConf.update(content, override.key_or_group, override.value(), merge=True)
            config = OmegaConf.to_object(content)
        assert isinstance(config, RunConfig)
        _check_overruled(overrides, config, base.choices)
        label = self._label(config, base)
        launcher = self.launcher or base.launcher
        return Point(config, dict(base.choices), _task_overrides(overrides), label, launcher)

    def experiment_sweep(self, overrides: Sequence[str]) -> list[str]:
        """Return the keys that the chosen experiment lists values for, to be swept with -m."""
        with friendly_errors():
            return self._parse(overrides)[0].swept

    def _parse(self, overrides: Sequence[str]) -> tuple["_Base", list[Override]]:
        """Compose the chosen options; return them with the overrides of single values."""
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        options = [o for o in parsed if o.is_hydra_override() or o.key_or_group in self._groups]
        values = [override for override in parsed if override not in options]
        by_hand = words_by_hand(override.key_or_group for override in values)
        return self._compose_options(*(str(o.input_line) for o in options), *by_hand), values

    def _compose_options(self, *options: str) -> "_Base":
        if options not in self._bases:
            content = self.loader.load_configuration(
                config_name=CONFIG_NAME, overrides=list(options), run_mode=RunMode.RUN
            )
            self._bases[options] = _split(content, options)
        return self._bases[options]

    def _label(self, config: RunConfig, base: "_Base") -> str:
        preset = self._preset_of(config, base)
        changed = {
            group: base.choices[group]
            for group in LABELLED_GROUPS
            if base.choices[group] != preset.choices[group]
        }
        own_values = _arm_values(preset.content)
        for group, option in changed.items():
            named = _option_values(group, option)
            own_values |= {f"{group}.{leaf}": value for leaf, value in named.items()}
        values = {key: value for key, value in leaves(config) if key in own_values}
        return arm_label(
            base.choices["fs"],
            mode=config.fs.mode.value,
            control=config.control.kind.value,
            changed_choices=changed,
            changed_values={k: v for k, v in values.items() if not _same(v, own_values[k])},
        )

    def _preset_of(self, config: RunConfig, base: "_Base") -> "_Base":
        """Return the preset alone, which a label is relative to."""
        chosen = {option.split("=")[0] for option in base.options}
        is_plain = chosen.isdisjoint({"experiment", *LABELLED_GROUPS})
        if is_plain or config.fs.mode is Mode.no_fs:
            return base
        with friendly_errors():
            return self._compose_options(f"fs={base.choices['fs']}")


def _task_overrides(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if not text.startswith("hydra")]


@dataclass(frozen=True)
class _Base:
    """Composed options, shared by all points that differ in single values only."""

    options: tuple[str, ...]
    content: DictConfig
    choices: dict[str, str]
    launcher: str
    swept: list[str]


def _split(content: DictConfig, options: tuple[str, ...]) -> _Base:
    """Take Hydra's own part away."""
    chosen = content.hydra.runtime.choices
    choices = {k: str(v) for k, v in chosen.items() if "/" not in k and v is not None}
    swept = list(content.hydra.sweeper.get("params") or {})
    with open_dict(content):
        del content["hydra"]
    return _Base(options, content, choices, str(chosen["hydra/launcher"]), swept)


def _arm_values(content: DictConfig) -> dict[str, Any]:
    """Return what a label may name; mode and control have words of their own."""
    values: dict[str, Any] = {}
    for key in ARM_KEYS:
        node = content[key]
        is_node = isinstance(node, DictConfig)
        values |= {f"{key}.{leaf}": v for leaf, v in node.items()} if is_node else {key: node}
    return {k: v for k, v in values.items() if k not in ("fs.mode", "control.kind")}


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with those of inner mappings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{leaf}": inner for leaf, inner in _flatten(value).items()}
        else:
            flat[key] = value
    return flat


def _check_overruled(
    overrides: Sequence[str], config: RunConfig, choices: Mapping[str, str]
) -> None:
    """Refuse a chosen option that a preset or an experiment overrules value by value."""
    values = _flatten(dict(leaves(config)))
    words = dict(text.split("=", 1) for text in overrides if "=" in text)
    for group in words.keys() & choices.keys():
        for leaf, value in _flatten(_option_values(group, choices[group])).items():
            key = f"{group}.{leaf}"
            if key in words or key not in values or _same(values[key], value):
                continue
            raise UserError(
                f"{group}={choices[group]} sets {key}={value}, but a preset or an experiment "
                f"sets {values[key]} after it\nsay which: add {key}=VALUE"
            )


@cache
def _option_values(group: str, option: str) -> dict[str, Any]:
    """Return the single values that an option file sets in its own group."""
    path = conf_dir() / group / f"{option}.yaml"
    # a control may turn the mode of a preset off, and an experiment has no group of its own
    if group in ("fs", "experiment") or not path.is_file():
        return {}
    text = path.read_text("utf-8")
    content = yaml.safe_load(text) or {}
    own = content.get(group, {}) if "# @package _global_" in text else content
    plain = {k: v for k, v in own.items() if k != "defaults"}
    return {k: v for k, v in plain.items() if not (isinstance(v, str) and "${" in v)}


def _same(composed: Any, written: Any) -> bool:
    """Compare a typed value with what a YAML file says, where 1e-3 is text and -3 no float."""
    if isinstance(composed, float):
        return composed == float(written)
    return getattr(composed, "value", composed) == getattr(written, "value", written)
