"""Signs of life of a run, for whoever started its process.

Training tells how far it is; nobody listens unless a worker process does. A sign comes from the
work itself and from no thread of its own: a step that hangs is silent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[dict[str, Any]], None]

_listeners: list[Listener] = []


def beat(state: str, **facts: Any) -> None:
    """Tell that the run is alive, what it does in a word or two, and how far it is.

    Known facts: ``step``, ``num_steps``, ``loss``, ``tokens_per_second``.
    """
    for listener in _listeners:
        listener({"state": state, **facts})


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand every sign of life in this process to ``listener``."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
