"""Batches made ready while the device computes: one thread ahead, two batches at most."""

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 2  # batches that wait


class Prefetched(Generic[T]):
    """Iterates over ``source`` in a thread of its own; what it raises is raised to the reader."""

    def __init__(self, source: Iterable[T], *, depth: int = DEPTH) -> None:
        """Read nothing before somebody iterates; then ``depth`` items ahead at most."""
        self.source, self.depth = source, depth
        self._readers: list[_Reader[T]] = []

    def __iter__(self) -> Iterator[T]:
        """Yield the items in order; the thread ends with the iteration."""
        reader = _Reader(iter(self.source), self.depth)
        self._readers.append(reader)
        try:
            yield from reader.items()
        finally:
            reader.close()

    def close(self) -> None:
        """End every thread, also those of iterations that nobody finished."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()


class _End:
    """The last word of a thread: its error, None where the source has ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Reader(Generic[T]):
    """One iteration: a thread that fills a queue."""

    def __init__(self, source: Iterator[T], depth: int) -> None:
        self._source, self._is_closed = source, False
        self._ready: SimpleQueue[T | _End] = SimpleQueue()
        self._free = threading.Semaphore(depth)
        # a daemon: a process that is asked to exit does not wait for a batch
        self._thread = threading.Thread(target=self._read, name="fseed-batches", daemon=True)
        self._thread.start()

    def items(self) -> Iterator[T]:
        """Yield what the thread has read."""
        while True:
            item = self._ready.get()
            if not isinstance(item, _End):
                self._free.release()
                yield item
            elif item.error is None:
                return
            else:
                raise item.error

    def close(self) -> None:
        """Let the thread end after the item it is at, and wait for it."""
        self._is_closed = True
        self._free.release()
        self._thread.join()

    def _read(self) -> None:
        try:
            while True:
                self._free.acquire()
                if self._is_closed:
                    return
                self._ready.put(next(self._source))
        except StopIteration:
            self._ready.put(_End(None))
        except BaseException as error:
            self._ready.put(_End(error))
