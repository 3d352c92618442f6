"""Work that is recorded once and done again: CUDA graphs, behind an interface that needs none."""

from collections.abc import Callable
from typing import Protocol

import torch


class Recorder(Protocol):
    """Turns a function into another one that does the same work on the device again."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return the other function; the work of ``function`` has not been done then."""
        ...


class CudaGraphRecorder:
    """Captures CUDA graphs that share one memory pool."""

    def __init__(self) -> None:
        """Open the pool; it is given back with the last graph."""
        self.pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture what ``function`` launches, the backward pass in autograd's thread included.

        Raises:
            OutOfMemoryError: where the device cannot hold what the graph needs beside all else.
            KeyboardInterrupt: where it was asked for meanwhile.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local": the thread that prepares batches may pin memory meanwhile
            # the outer guard: a capture that breaks off would leave its own stream behind
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"),
            ):
                function()
        except RuntimeError as error:
            # a capture that breaks off reports that over the reason
            cause = error.__context__
            if isinstance(cause, torch.OutOfMemoryError | KeyboardInterrupt):
                raise cause from None
            raise
        return graph.replay
