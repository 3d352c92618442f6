"""The one door between files and Hydra: whatever is composed is checked before it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from fseed.compose.allow_list import check_names, check_search_path, check_words, refuse_variable
from fseed.errors import UserError
from fseed.provenance import is_readable_variable


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader; launchers take it along into their worker processes."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose as Hydra does.

        Raises:
            UserError: when a file names code, folders or variables that it may not.
        """
        check_search_path(overrides)
        config = super().load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        content: Any = OmegaConf.to_container(config, resolve=False)
        words = OverridesParser.create().parse_overrides(list(overrides))
        check_words(content, words=[str(word.input_line) for word in words])
        # --hydra-help composes Hydra's options alone, with Hydra's own folders, and runs nothing
        own = ["hydra.run", "hydra.sweep", "hydra.job", "hydra.output_subdir"]
        # launcher=ray chooses a file and gives none of the keys launcher.* itself
        keys = (word.key_or_group for word in words)
        given = [key for key in keys if not self.repository.group_exists(key)]
        given += own if config_name is None else []
        check_names(content, given=given)
        return config


@contextmanager
def guarded_resolvers() -> Iterator[None]:
    """Let interpolations read only harmless variables and build no nodes, until the end."""
    guards = {"oc.env": _read_variable, "oc.create": _refuse_node, "oc.decode": _refuse_node}
    originals = {"oc.env": oc.env, "oc.create": oc.create, "oc.decode": oc.decode}
    for name, guard in guards.items():
        OmegaConf.register_new_resolver(name, guard, replace=True)
    try:
        yield
    finally:
        for name, original in originals.items():
            OmegaConf.register_new_resolver(name, original, replace=True)


def _read_variable(name: str, *default: Any) -> Any:
    if not is_readable_variable(name):
        raise UserError(refuse_variable(name))
    return oc.env(name, *default)


def _refuse_node(*_: Any) -> NoReturn:
    raise UserError("the resolvers oc.create and oc.decode are not allowed; write the value out")
