"""What a configuration file may name: nothing is imported, called or set that is not listed here.

Hydra starts whatever ``_target_`` names, and ``logging`` whatever a handler names. A file may come
from a stranger, so each composed configuration is checked before Hydra acts on it. Words of the
command line are the user's own: they may move folders and name addresses, but no new code.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from fseed.errors import UserError
from fseed.provenance import is_readable_variable

TARGETS_VARIABLE = "FSEED_ALLOW_TARGETS"

# the only places where Hydra itself starts a class of the list
_PLUGIN_KEYS = ("hydra.launcher._target_", "hydra.sweeper._target_")
_PLUGINS = frozenset(
    {
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    }
)
_OWN_PLUGINS = tuple(
    f"hydra_plugins.fseed_{name}."
    for name in ("paired_sweeper", "staged_sweeper", "slots_launcher", "ray_launcher")
)
_RESOLVERS = frozenset(
    {"fseed_output_dir", "hydra", "now", "python_version", "oc.env", "oc.select", "oc.deprecated"}
)

# what only the user's own words may set, and the values that a file may repeat
_COMMAND_LINE_ONLY: dict[str, tuple[Any, ...]] = {
    "output.root": (None,),
    "mbpp.allow_unsandboxed": (False,),
    "launcher.ray_address": (None, "auto"),
}
_OUTPUT_DIR = "${fseed_output_dir:${output.root},${sweep.name}}"
_HYDRA_ONLY: dict[str, tuple[Any, ...]] = {
    "hydra.run.dir": (_OUTPUT_DIR,),
    "hydra.sweep.dir": (_OUTPUT_DIR,),
    "hydra.sweep.subdir": (".",),
    "hydra.output_subdir": (None,),
    "hydra.job.name": ("fseed",),
    "hydra.job.chdir": (False, None),
    # before env_set, where Hydra has put the values
    "hydra.job.env_copy": ([],),
    "hydra.job.env_set": ({},),
    "hydra.searchpath": ([],),
}
# Slurm runs the first two as commands; the others are what its scripts take without harm
_SHELL_KEYS = ("setup", "srun_args", "python")
_SLURM_PARAMETERS = frozenset(
    {"clusters", "exclusive", "hint", "licenses", "mail-type", "mail-user", "nice", "open-mode"}
    | {"requeue", "reservation", "signal", "switches", "open_mode", "mail_type", "mail_user"}
)

_LOGGING_CLASSES = frozenset(
    {"logging.StreamHandler", "logging.NullHandler", "logging.FileHandler", "logging.Formatter"}
    | {"colorlog.ColoredFormatter", "rich.logging.RichHandler"}
)
_LOG_FILES = ("${hydra.runtime.output_dir}/${hydra.job.name}.log",)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")

_INTERPOLATION = re.compile(r"(?<!\\)\$\{\s*([^:{}$\s]*)\s*(.?)")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*['\"]?(\w*)['\"]?\s*[,}]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SWEPT_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def check_names(config: Mapping[str, Any], *, given: Collection[str] = ()) -> None:
    """Raise UserError when a composed configuration names anything that is not allowed.

    Args:
        config: plain values with interpolations as written, Hydra's own part included.
        given: keys that the command line sets itself.
    """
    for key, value in _leaves(config):
        _check_target(key, value)
        if isinstance(value, str):
            _check_text(key, value)
    hydra = config.get("hydra") or {}
    for name in ("job_logging", "hydra_logging"):
        _check_logging(f"hydra.{name}", hydra.get(name))
    _check_launcher(hydra.get("launcher"), given=given)
    _check_swept(hydra.get("sweeper"))
    for rules in (_COMMAND_LINE_ONLY, _HYDRA_ONLY):
        for key, allowed in rules.items():
            if not _is_given(key, given):
                _check_fixed(config, key, allowed)


def check_words(config: Mapping[str, Any], *, words: Collection[str]) -> None:
    """Refuse a file that adds words to the command line, which launchers compose again."""
    told = (config.get("hydra") or {}).get("overrides") or {}
    for word in (*told.get("hydra", ()), *told.get("task", ())):
        if word not in words:
            raise UserError(
                f"hydra.overrides: a file adds {word!r} to the command line; remove it there"
            )


def check_search_path(words: Collection[str]) -> None:
    """Refuse a module as a folder of options: finding its files would import it."""
    for word in words:
        if word.lstrip("+~").startswith("hydra.searchpath") and "pkg:" in word.replace("'", ""):
            raise UserError(
                f"{word}: a module would be imported to find it\ngive a folder: --config-dir FOLDER"
            )


def words_by_hand(keys: Iterable[str]) -> list[str]:
    """Return the words of a command line that say which of the ``keys`` only it may set.

    They hold what a file may repeat: the values themselves come later.
    """
    neutral = {None: "null", False: "false"}
    return [
        f"{key}={neutral[_COMMAND_LINE_ONLY[key][0]]}" for key in keys if key in _COMMAND_LINE_ONLY
    ]


def allowed_targets() -> frozenset[str]:
    """Return the names that the user's environment adds to the list."""
    names = os.environ.get(TARGETS_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key with its value; keys of mappings are yielded as texts too."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            key = f"{prefix}.{name}" if prefix else str(name)
            yield f"{prefix} (a key)", str(name)
            yield from _leaves(value, key)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _leaves(value, f"{prefix}[{place}]")
    else:
        yield prefix, node


def _check_target(key: str, value: Any) -> None:
    if key.rsplit(".", 1)[-1] != "_target_":
        return
    name = str(value)
    is_plugin = name in _PLUGINS or name.startswith(_OWN_PLUGINS)
    if (is_plugin and key in _PLUGIN_KEYS) or name in allowed_targets():
        return
    raise UserError(
        f"{key}={name}: a configuration may not start this\n"
        "allowed: hydra/launcher and hydra/sweeper of Hydra, fseed, submitit, joblib and Ray\n"
        f"code that you know and trust: {TARGETS_VARIABLE}={name} in your environment"
    )


def _check_text(key: str, text: str) -> None:
    if _CONTROL.search(text) is not None:
        raise UserError(f"{key}={text!r}: holds a control character; remove it")
    for found in _INTERPOLATION.finditer(text):
        name, after = found[1], found[2]
        if after == "$":
            raise UserError(f"{key}={text}: an interpolation inside the name of another is refused")
        if after == ":" and name not in _RESOLVERS:
            raise UserError(
                f"{key}={text}: the resolver {name} is not allowed\n"
                f"allowed: {', '.join(sorted(_RESOLVERS))}, and ${{other.key}}"
            )
        if after == ":" and name == "oc.env":
            _check_variable(key, text[found.start() :])


def _check_variable(key: str, text: str) -> None:
    found = _VARIABLE.match(text)
    name = found[1] if found is not None else text
    if not is_readable_variable(name):
        raise UserError(refuse_variable(name, key=key))


def refuse_variable(name: str, *, key: str | None = None) -> str:
    """Return the message for a variable of the environment that may hold a secret."""
    where = f"{key}: " if key is not None else ""
    return (
        f"{where}the environment variable {name} may hold a secret, and configurations are recorded"
        "\nallowed: FSEED_... and SLURM_JOB... but for keys and tokens, HOME, SCRATCH, TMPDIR, WORK"
    )


def _check_logging(key: str, node: Any) -> None:
    if node is None:
        return
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node}: write the logging configuration out, or choose an option")
    for name, value in _leaves(node):
        if name.endswith(" (a key)"):
            continue
        leaf = name.rsplit(".", 1)[-1]
        if leaf in ("class", "()", "factory") and value not in _LOGGING_CLASSES | allowed_targets():
            raise UserError(_refuse_logging(f"{key}.{name}", value, _LOGGING_CLASSES))
        if leaf == "filename" and value not in _LOG_FILES:
            raise UserError(_refuse_logging(f"{key}.{name}", value, _LOG_FILES))
        is_lookup = isinstance(value, str) and ("${" in value or "://" in value)
        if is_lookup and leaf != "filename" and value not in _STREAMS:
            raise UserError(_refuse_logging(f"{key}.{name}", value, _STREAMS))


def _refuse_logging(key: str, value: Any, allowed: Collection[str]) -> str:
    return (
        f"{key}={value}: logging would import or open this\n"
        f"allowed: {', '.join(sorted(allowed))}; or choose hydra/job_logging=stdout"
    )


def _check_launcher(node: Any, *, given: Collection[str]) -> None:
    for name, value in _leaves(node or {}):
        key = f"hydra.launcher.{name}"
        if name.endswith(" (a key)") or name == "_target_" or _is_given(key, given):
            continue
        top, leaf = re.split(r"[.\[]", name)[0], name.rsplit(".", 1)[-1]
        text = str(value)
        is_shell = top in _SHELL_KEYS or (
            top == "additional_parameters" and leaf not in _SLURM_PARAMETERS
        )
        is_place = text.startswith(("/", "~")) or ".." in text or "://" in text
        if value is not None and (is_shell or is_place or "\n" in text or "address" in leaf):
            raise UserError(
                f"{key}={text!r}: a file may not give a launcher commands, folders or addresses\n"
                f"if you want it, give it on the command line: {key.split('[')[0]}=..."
            )


def _check_swept(node: Any) -> None:
    params = (node or {}).get("params") if isinstance(node, Mapping) else None
    if params is None:
        return
    if not isinstance(params, Mapping):
        raise UserError(f"hydra.sweeper.params={params}: expected one key per line")
    for key in map(str, params):
        if not _SWEPT_KEY.fullmatch(key) or key.split(".")[0] == "hydra":
            raise UserError(f"hydra.sweeper.params: {key!r} is no key that a file may sweep")
        if key in _COMMAND_LINE_ONLY:
            raise UserError(f"hydra.sweeper.params: {_only_by_hand(key, params[key])}")


def _check_fixed(config: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> None:
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return
        node = node[name]
    if node not in allowed and node != "???":
        raise UserError(_only_by_hand(key, node))


def _only_by_hand(key: str, value: Any) -> str:
    return (
        f"{key}={value} is set by a file, which only your own command line may do\n"
        f"if you want it, give it there: {key}=..."
    )


def _is_given(key: str, given: Collection[str]) -> bool:
    """Tell whether the command line sets ``key``, what holds it, or a part of it."""
    return any(
        key == name or key.startswith((f"{name}.", f"{name}[")) or name.startswith(f"{key}.")
        for name in given
    )
