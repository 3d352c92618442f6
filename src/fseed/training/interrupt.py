"""Clean stop: Ctrl-C, SIGTERM and a closed terminal wait for the end of the optimiser step."""

import signal
import threading
from types import FrameType
from typing import Any


class InterruptFlag:
    """Context that turns the first SIGINT, SIGTERM or SIGHUP into a flag.

    A second SIGINT stops at once; ``nohup`` still keeps a run from hearing that its terminal goes.
    """

    def __init__(self) -> None:
        """Install nothing yet."""
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "InterruptFlag":
        """Install the handlers (the main thread only can)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
