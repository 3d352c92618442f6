"""What a worker process tells about itself for the record of a run; nothing in other processes.

It says in which process a run was computed and cannot change a number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_told: list[dict[str, Any]] = []


def worker_facts() -> dict[str, Any] | None:
    """Return what the worker around this run has told, None outside of a worker."""
    return dict(_told[-1]) if _told else None


@contextmanager
def telling(facts: dict[str, Any]) -> Iterator[None]:
    """Let the record of the run inside hold ``facts``: plain values, without any name."""
    _told.append(facts)
    try:
        yield
    finally:
        _told.pop()
