"""The console that tables are printed on, and a copy of what goes there."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from fseed.plain_text import plain_text

PIPE_WIDTH = 120


def build_console(file: IO[str] | None = None, *, width: int | None = None) -> Console:
    """Return a console; when piped, without colour and as wide as COLUMNS or 120.

    Standard output is told to escape what its encoding cannot hold instead of raising.
    """
    if file is None and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = PlainConsole(file=file, highlight=False, markup=False, width=width)
    if not console.is_terminal and width is None:
        columns = os.environ.get("COLUMNS", "")
        console.width = int(columns) if columns.isdigit() else PIPE_WIDTH
    return console


class PlainConsole(Console):
    """A console on which texts of strangers are only text: control characters are spelt out."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return plain text as rich shows it, whether printed alone or in a cell."""
        return super().render_str(plain_text(text), **options)


def describe_console(console: Console) -> str:
    """Return all that decides the text printed on a console."""
    looks = (console.width, console.encoding, console.color_system, console.no_color)
    return repr((console.is_terminal, *looks))


def tell_written(written: Sequence[Path], console: Console) -> None:
    """Print the names of files and their folder; nothing without files."""
    if written:
        names = ", ".join(path.name for path in written)
        console.print(f"\nwritten to {written[0].parent}: {names}", soft_wrap=True)


@contextmanager
def copied_output() -> Iterator[list[str]]:
    """Yield a list that receives all that is printed meanwhile, which is printed all the same."""
    stream, parts = sys.stdout, []
    # without one, rich prints nothing and there is nothing to copy
    sys.stdout = _Copied(stream, parts) if stream is not None else stream
    try:
        yield parts
    finally:
        sys.stdout = stream


class _Copied:
    """A stream in all but that it remembers what is written to it."""

    def __init__(self, stream: IO[str], parts: list[str]) -> None:
        self._stream, self._parts = stream, parts

    def write(self, text: str) -> int:
        self._parts.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
