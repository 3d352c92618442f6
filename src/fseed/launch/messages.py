"""What passes between a launcher and its worker processes.

Jobs go down as pickles, each behind its length, over a pipe that only the two hold. Answers come
up as JSON lines: nothing that a worker says is ever unpickled.
"""

import json
import os
import pickle
import struct
from dataclasses import asdict, dataclass
from typing import Any

from fseed.launch.job import Job
from fseed.planned_run import RunOutcome

LENGTH = struct.Struct("!Q")
MAX_JOB_BYTES = 64 * 2**20
# a line up to this size reaches a pipe whole or not at all (POSIX: PIPE_BUF)
MAX_LINE_BYTES = 4096
READ_BYTES = 2**16


def pack_job(job: Job) -> bytes:
    """Return the bytes of one job for ``read_job``."""
    content = pickle.dumps(job)
    return LENGTH.pack(len(content)) + content


def read_job(descriptor: int) -> Job | None:
    """Wait for the next job; None when the other side has closed the pipe."""
    head = _read_exactly(descriptor, LENGTH.size)
    if head is None:
        return None
    (size,) = LENGTH.unpack(head)
    if size > MAX_JOB_BYTES:
        raise ValueError(f"a job of {size:,} bytes; at most {MAX_JOB_BYTES:,}")
    content = _read_exactly(descriptor, size)
    return None if content is None else pickle.loads(content)


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    parts, left = [], size
    while left:
        part = os.read(descriptor, min(left, READ_BYTES))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def pack_sign(facts: dict[str, Any]) -> bytes:
    """Return the line of a sign of life."""
    return json.dumps({"kind": "sign", **facts}).encode() + b"\n"


def pack_outcome(outcome: RunOutcome, *, leaves: str = "") -> bytes:
    """Return the line of a run that has ended, its texts cut to what a line may hold.

    ``leaves``: why the worker takes no other run, empty where it does.
    """
    told = asdict(outcome) | {"message": _cut(outcome.message, MAX_LINE_BYTES // 8)}
    leaves = _cut(leaves, MAX_LINE_BYTES // 16)
    return json.dumps({"kind": "outcome", "leaves": leaves, **told}).encode() + b"\n"


def _cut(text: str, num_bytes: int) -> str:
    # one byte takes six in JSON at most
    return text.encode(errors="backslashreplace")[:num_bytes].decode(errors="ignore")


@dataclass(frozen=True)
class Answer:
    """One line of a worker: the signs of life since the last, or how its run ended."""

    facts: dict[str, Any]
    outcome: RunOutcome | None = None


class AnswerReader:
    """Cut the bytes of a worker into answers; a line that is none of ours counts as a sign."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Answer]:
        """Return the answers that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        # whatever a run writes here by mistake must not fill the memory
        self._rest = self._rest[-MAX_LINE_BYTES:]
        return [_parse(line) for line in lines]


def _parse(line: bytes) -> Answer:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return Answer({})
    if not isinstance(content, dict):
        return Answer({})
    kind = content.pop("kind", None)
    if kind == "sign":
        return Answer(content)
    if kind != "outcome":
        return Answer({})
    leaves = content.pop("leaves", "")
    try:
        return Answer({"leaves": leaves}, RunOutcome(**content))
    except TypeError:
        return Answer({})
