"""Work beside this process, on another core: a forked copy sends back what it returns."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")

# runs; below this a copy costs more than it saves
MIN_RUNS = 1000


def num_cores() -> int:
    """Return the number of cores that this process may use; 1 where forking is not safe."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def beside(work: Callable[[], Result], *, num_runs: int) -> Callable[[], Result]:
    """Start ``work`` in a copy of this process and return a function that waits for its result.

    The copy has all memory as it is now. With few runs, or on one core, the work is done when it is
    asked for; so is the work of a copy that raised or was killed, to raise here.
    """
    if num_runs < MIN_RUNS or num_cores() == 1:
        return work
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(work, receiver, sender), daemon=True)
    try:
        process.start()
    except OSError:
        # no room for another process
        return work
    sender.close()

    def wait() -> Result:
        try:
            (result,) = receiver.recv()
        except (EOFError, OSError):
            # OSError: killed in the middle of its answer
            return work()
        finally:
            receiver.close()
            # done, or it would wait for ever to be read: this process was interrupted
            process.terminate()
            process.join()
        return result

    return wait


def leave_at_once(code: int) -> NoReturn:
    """End the process at once; taking the memory of thousands of runs apart takes a while."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by whoever started this
                stream.flush()
    except OSError:
        sys.exit(code)
    os._exit(code)


def _send(work: Callable[[], Any], receiver: Connection, sender: Connection) -> None:
    # held open here, it would keep this copy waiting after its parent was killed
    receiver.close()
    try:
        sender.send((work(),))
    except BaseException:
        # without a result the other side repeats the work, and tells what is wrong
        os._exit(1)
