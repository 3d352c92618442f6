"""The state that runs of one process share: seen before and after each, put back, compared.

What a run may change and another would read is listed here in full: a field per setting. A field
that can be set is put back to what it was; all are compared afterwards.
"""

import gc
import hashlib
import json
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fseed.launch.torch_state import (
    hash_gpu_random,
    hash_random,
    left_on_gpu,
    read_random,
    read_torch,
    restore_torch,
)
from fseed.provenance import recorded_environment

DESCRIPTORS = Path("/proc/self/fd")
TASKS = Path("/proc/self/task")
LOGGERS = (None, "fseed", "lightning", "lightning.pytorch", "torch", "py.warnings")


@dataclass(frozen=True)
class State:
    """What was found: ``settings`` are the same in every fresh process, ``private`` are not.

    ``kept`` holds what is needed to put things back.
    """

    settings: Mapping[str, Any]
    private: Mapping[str, Any]
    kept: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the settings."""
        text = json.dumps(self.settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_state() -> State:
    """Return the state of this process; costs some milliseconds."""
    settings = {name: read() for name, read in _SETTINGS.items()} | read_torch()
    private = {name: read() for name, read in _PRIVATE.items()}
    return State(settings, private, {name: read() for name, (read, _) in _KEPT.items()})


def restore_state(before: State) -> None:
    """Put back whatever can be set; torch too, with its random state."""
    for name, (_, write) in _KEPT.items():
        write(before.kept[name])
    restore_torch(before.settings, before.kept["torch random"])


def find_differences(before: State, after: State) -> list[str]:
    """Return the names of fields that differ, with both values where these are short.

    A field that ``before`` does not have, or has as None, belongs to what was not loaded then.
    """
    found = []
    for old, new in ((before.settings, after.settings), (before.private, after.private)):
        for name in old:
            if old[name] is not None and new.get(name) != old[name]:
                found.append(_told(name, old[name], new.get(name)))
    return found


def _told(name: str, old: Any, new: Any) -> str:
    if isinstance(old, list) and isinstance(new, list):
        more = [str(each) for each in new if each not in old]
        less = [str(each) for each in old if each not in new]
        parts = [f"+{each}" for each in more] + [f"-{each}" for each in less]
        return f"{name}: {', '.join(parts) or 'another order'}"[:300]
    # values of the environment are nobody's business, those of settings are
    return f"{name}: {old!r} -> {new!r}"[:300]


def _read_filters() -> list[str]:
    return [
        f"{action} {_pattern(text)} {_name(category)} {_pattern(module)} {line}"
        for action, text, category, module, line in warnings.filters
    ]


def _pattern(part: Any) -> str:
    return "" if part is None else str(getattr(part, "pattern", part))


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    found = {name: each for name, each in known.items() if isinstance(each, logging.Logger)}
    return {"": logging.root, **found}


def _read_loggers() -> dict[str, tuple[int, bool, bool, list[logging.Handler]]]:
    return {
        name: (each.level, each.disabled, each.propagate, list(each.handlers))
        for name, each in _loggers().items()
    }


def _restore_loggers(before: dict[str, tuple[int, bool, bool, list[logging.Handler]]]) -> None:
    for name, logger in _loggers().items():
        # a logger that was made since keeps what its library gave it
        if name in before:
            level, logger.disabled, logger.propagate, handlers = before[name]
            logger.handlers[:] = handlers
            # each call empties a cache of every logger
            if logger.level != level:
                logger.setLevel(level)


def _read_handlers() -> dict[int, Any]:
    return {int(each): signal.getsignal(each) for each in signal.valid_signals()}


def _restore_handlers(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        # None: set by a library in C, which Python cannot put back
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _hash_environment() -> str:
    """Return a digest of the environment: its values are never told."""
    return hashlib.sha256(json.dumps(sorted(os.environ.items())).encode()).hexdigest()


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _read_mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _read_descriptors() -> list[str]:
    """Return the open files by name; of pipes, sockets and devices only how many of each kind."""
    names: list[str] = []
    for each in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            names.append(os.readlink(each))
        except OSError:
            # the descriptor with which the folder is read
            continue
    files = [name for name in names if name.startswith("/") and not _is_of_driver(name)]
    return sorted(name for name in files if name != f"/proc/{os.getpid()}/fd")


def _is_of_driver(name: str) -> bool:
    return name.startswith(("/dev/", "/proc/", "/sys/", "/memfd:"))


def _read_threads() -> list[str]:
    return sorted(each.name for each in threading.enumerate())


def _read_children() -> list[str]:
    found: list[str] = []
    for task in TASKS.iterdir() if TASKS.is_dir() else ():
        try:
            found += (task / "children").read_text("ascii").split()
        except OSError:
            continue
    return sorted(found)


def _read_numpy_errors() -> dict[str, str]:
    numpy = sys.modules.get("numpy")
    return {} if numpy is None else dict(numpy.geterr())


def _restore_numpy_errors(before: dict[str, str]) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and before:
        numpy.seterr(**before)


def _read_numpy_random() -> Any:
    numpy = sys.modules.get("numpy.random")
    return None if numpy is None else numpy.get_state()


def _restore_numpy_random(before: Any) -> None:
    if before is not None:
        sys.modules["numpy.random"].set_state(before)


def _hash_random() -> str:
    numpy = _read_numpy_random()
    parts = (random.getstate(), None if numpy is None else [str(each) for each in numpy[1:]])
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _are_examples_unchanged() -> bool:
    module = sys.modules.get("fseed.training.data_module")
    return module is None or module.are_examples_unchanged()


def _nothing(_: Any) -> None:
    """Put nothing back."""


# the same in every fresh process of a sweep: their digest goes into the record
_SETTINGS: dict[str, Callable[[], Any]] = {
    "environment": recorded_environment,
    "warnings": _read_filters,
    "levels": lambda: [logging.getLogger(name).level for name in LOGGERS],
    "mask": _read_mask,
    "locale": lambda: [locale.setlocale(number) for number in (locale.LC_ALL, locale.LC_NUMERIC)],
    "numpy errors": _read_numpy_errors,
    "recursion": sys.getrecursionlimit,
    "collector": lambda: [gc.isenabled(), *gc.get_threshold()],
    "signals": lambda: {n: _name(h) for n, h in _read_handlers().items() if _name(h) != "SIG_DFL"},
}
# names of machines, numbers of processes, and generators that start from the system's entropy
_PRIVATE: dict[str, Callable[[], Any]] = {
    "all environment": _hash_environment,
    "folder": os.getcwd,
    "sys.path": lambda: list(sys.path),
    "importers": lambda: [_name(each) for each in sys.meta_path],
    "streams": lambda: [id(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "hooks": lambda: [_name(each) for each in (sys.excepthook, sys.displayhook)],
    "random": _hash_random,
    "open files": _read_descriptors,
    "threads": _read_threads,
    "child processes": _read_children,
    "memory of the GPU": left_on_gpu,
    "random of torch": hash_random,
    "random of the GPU": hash_gpu_random,
    "examples": _are_examples_unchanged,
}
_KEPT: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "environment": (lambda: dict(os.environ), _restore_environment),
    "folder": (os.getcwd, os.chdir),
    "mask": (_read_mask, lambda mask: _nothing(os.umask(mask))),
    "warnings": (lambda: list(warnings.filters), lambda b: _nothing(_set_filters(b))),
    "levels": (_read_loggers, _restore_loggers),
    "sys.path": (lambda: list(sys.path), lambda before: sys.path.__setitem__(slice(None), before)),
    "random": (random.getstate, random.setstate),
    "numpy random": (_read_numpy_random, _restore_numpy_random),
    "numpy errors": (_read_numpy_errors, _restore_numpy_errors),
    "recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    "signals": (_read_handlers, _restore_handlers),
    "torch random": (read_random, _nothing),
}


def _set_filters(before: list[Any]) -> None:
    warnings.resetwarnings()
    warnings.filters[:] = before  # type: ignore[index] (typed as a sequence, is a list)


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", None) or getattr(value, "name", None) or repr(value)
