"""The one exception for input that a user can mend, and help in wording it."""

from collections.abc import Iterable
from difflib import get_close_matches

from fseed.plain_text import plain_text


class UserError(ValueError):
    """Bad input: says what was given, what is allowed and what to do, in one to three lines.

    Entry points print the message on stderr without a traceback and exit with 2. It may repeat
    what a stranger's file says, which must not steer the terminal.
    """

    def __str__(self) -> str:
        """Return the message, control characters spelt out."""
        return plain_text(super().__str__())


class DataError(UserError):
    """Rows that cannot be used, found only after training had been set up."""


class RunInterrupted(Exception):
    """The user asked a run to stop; its last checkpoint is on disk."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean a, b?"`` for names near ``name``, or an empty string."""
    near = get_close_matches(name, list(allowed), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(near)}?" if near else ""
