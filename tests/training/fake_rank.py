"""Stands for ``fseed.training.rank``: does what the first word says, without torch.

Usage: fake_rank.py SCRIPT --rank=R ... where SCRIPT is one action a rank, such as "done,die".
"""

import json
import os
import signal
import sys
import time

script = sys.argv[1].split(",")
given = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:])
rank, answers = int(given["rank"]), int(given["answers"])


def tell(**message) -> None:
    os.write(answers, json.dumps(message).encode() + b"\n")


def fail(kind: str, message: str, *, is_echo: bool = False) -> None:
    tell(
        **{"end": "failed", "class": kind, "message": message, "traceback": f"where {message}"},
        is_echo=is_echo, is_scoring=False, step=7,
    )  # fmt: skip
    sys.exit(1)


match script[rank]:
    case "done":
        tell(beat={"state": "training", "step": rank})
        tell(end="done")
    case "wait":
        time.sleep(60)
    case "die":
        os.kill(os.getpid(), signal.SIGKILL)
    case "exit":
        sys.exit(3)
    case "echo":
        fail("error", "gloo: connection closed by peer", is_echo=True)
    case "signalled":
        # torch is still being imported: nothing here answers a signal
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        tell(end="done")
    case "late_nan":
        time.sleep(0.5)
        fail("nan", "the loss is nan")
    case "obey":
        # the job before it is a pickle, which may not end with a line
        while not sys.stdin.buffer.readline().endswith(b"stop\n"):
            pass
        fail("interrupted", "stopped after step 7")
    case kind:
        fail(kind, f"a {kind}")
