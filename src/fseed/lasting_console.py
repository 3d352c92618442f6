"""A console whose reader may go: a terminal that is closed, a pipe whose other end has ended.

What cannot be shown any more is dropped, and the work that it tells of goes on to its next
checkpoint. Rich by itself ends the process at a closed pipe.
"""

import sys
from contextlib import suppress
from typing import IO, Any

from rich.console import Console


def say(text: str) -> None:
    """Print a line on standard error, unless nobody reads that any more."""
    if sys.stderr is not None:  # closed by whoever started this
        print(text, file=_LastingStream(sys.stderr), flush=True)


class LastingConsole(Console):
    """Rich's console, on a stream that never raises for want of a reader."""

    def __init__(
        self, *, file: IO[str] | None = None, stderr: bool = False, **options: Any
    ) -> None:
        """Draw on ``file``, or on standard output or error; ``options`` are rich's."""
        stream = file if file is not None else sys.stderr if stderr else sys.stdout
        lasting = _LastingStream(stream) if stream is not None else None
        # without a stream, rich prints nowhere
        super().__init__(file=lasting, stderr=stderr, **options)  # type: ignore[arg-type] (IO in all that rich calls)


class _LastingStream:
    """A stream in all but that what cannot be written is dropped.

    Whatever the reason: what was shown is no record, and records say by themselves what they lack.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
