"""Programs that try to stay or to take too much."""

from tests.sandbox.hostile_outside import stopped
from tests.sandbox.hostile_program import FAILED, MEMORY, OUTPUT, TIMEOUT, ends

STAYING = (
    ends(
        "fork bomb",
        """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
        TIMEOUT,
    ),
    ends(
        "orphan in its own session that holds the pipes",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(60)
    os._exit(0)
def answer(n):
    return 42
""",
        FAILED,
    ),
    ends(
        "daemon by forking twice",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir('/')
        time.sleep(60)
    os._exit(0)
os.wait()
os._exit(0)
""",
        FAILED,
    ),
    ends(
        "orphan left by a test",
        """
import os, time
def answer(n):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    return 42
""",
        FAILED,
    ),
    ends(
        "signals that end a process ignored",
        """
import signal
for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU):
    try:
        signal.signal(number, signal.SIG_IGN)
    except ValueError:
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
while True:
    pass
""",
        TIMEOUT,
    ),
    ends("infinite loop", "while True: pass", TIMEOUT),
    ends("sleeping for ever", "import time\ntime.sleep(1e6)", TIMEOUT),
    ends(
        "threads without end",
        """
import threading, time
def answer(n):
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
""",
        FAILED,
    ),
    ends(
        "killing everything it can",
        "import os\nos.kill(-1, 9)\nos.kill(os.getppid(), 9)\nos.kill(1, 9)\nos.kill(0, 9)",
        FAILED,
    ),
    ends("regular expression", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", TIMEOUT),
)

TAKING = (
    ends("allocation of 4 GB", "x = bytearray(4 * 2**30)", MEMORY),
    stopped(
        "files in memory that no limit counts",
        "blocked(os.memfd_create, 'x')",
        "blocked(posix.memfd_create, 'x')",
        code="import posix",
    ),
    ends("a list without end", "x = []\nwhile True: x.append(bytes(2**20))", MEMORY),
    ends(
        "memory of many processes",
        """
import os, time
for _ in range(8):
    if os.fork() == 0:
        x = bytearray(os.urandom(2**20)) * 100
        time.sleep(60)
time.sleep(60)
""",
        MEMORY,
    ),
    ends("1 GB to stdout", "for _ in range(1024): print('x' * 2**20, flush=True)", OUTPUT),
    ends(
        "1 GB to stderr",
        "import os\nfor _ in range(1024): os.write(2, bytes(2**20))",
        OUTPUT,
    ),
    ends("deep recursion", "def answer(n): return answer(n + 1)", FAILED),
    ends(
        "recursion without limit",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef answer(n): return answer(n + 1)",
        MEMORY,
        TIMEOUT,
        FAILED,
    ),
    ends(
        "stack overflow",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\nx, y = [], []\n"
        "for _ in range(4 * 10**5): x, y = [x], [y]\nx == y",
        FAILED,
    ),
    ends("power of huge numbers", "x = 9 ** 9 ** 9", TIMEOUT, MEMORY),
    ends("aborting", "import os\nos.abort()", FAILED),
)
