"""Batches a thread ahead: order, bound, errors, and threads that end."""

import threading
import time
from itertools import count, islice

import pytest

from fseed.training.prefetch import DEPTH, Prefetched


def reading_threads() -> int:
    return sum(thread.name == "fseed-batches" for thread in threading.enumerate())


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert is_so()


def test_items_come_in_order_and_the_source_may_end():
    assert list(Prefetched(range(50))) == list(range(50))
    assert reading_threads() == 0


def test_it_reads_two_ahead_and_no_further():
    seen: list[int] = []

    def source():
        for i in count():
            seen.append(i)
            yield i

    ahead = Prefetched(source())
    items = iter(ahead)
    assert next(items) == 0
    # one was taken, two wait
    wait_until(lambda: len(seen) == 1 + DEPTH)
    time.sleep(0.02)
    assert len(seen) == 1 + DEPTH
    ahead.close()
    assert reading_threads() == 0


def test_items_are_read_in_another_thread():
    names = Prefetched(threading.current_thread().name for _ in range(2))
    assert list(names) == ["fseed-batches"] * 2


def test_an_error_is_raised_to_the_reader_behind_what_came_before():
    def source():
        yield 1
        raise ValueError("no more")

    items = iter(Prefetched(source()))
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)
    assert reading_threads() == 0


def test_an_iteration_that_is_left_ends_its_thread():
    assert list(islice(Prefetched(count()), 3)) == [0, 1, 2]
    wait_until(lambda: reading_threads() == 0)


def test_closing_twice_or_before_reading_does_no_harm():
    ahead = Prefetched(count())
    ahead.close()
    next(iter(ahead))
    ahead.close()
    ahead.close()
    assert reading_threads() == 0
