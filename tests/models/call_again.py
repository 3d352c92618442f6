"""A recorder that needs no device."""

from collections.abc import Callable


class CallAgain:
    """Records nothing: the replay is the function itself. Counts both."""

    def __init__(self) -> None:
        self.num_captures = self.num_replays = 0

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        self.num_captures += 1

        def replay() -> None:
            self.num_replays += 1
            function()

        return replay
