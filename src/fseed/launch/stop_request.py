"""Ctrl-C at a launcher: once, all runs save and end; twice, they are killed."""

import signal
import threading
from types import FrameType
from typing import Any

STOPPING = "stopping: every run saves and ends; Ctrl-C again kills them"


class StopRequest:
    """Context that counts SIGINT, SIGTERM and SIGHUP in place of ending the process.

    Elsewhere than in the main thread it changes nothing, and no signal is seen.
    """

    def __init__(self) -> None:
        """Install nothing yet."""
        self.count = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Install the handlers; a signal that is ignored stays so (``nohup``)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def is_urgent(self) -> bool:
        """Whether to kill at once."""
        return self.count > 1

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # only a second Ctrl-C is a person's haste
        self.count += 1 if self.count == 0 or number == signal.SIGINT else 0
