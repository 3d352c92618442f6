"""Programs that try to pass without being right."""

from tests.sandbox.hostile_forging import FORGING
from tests.sandbox.hostile_outside import stopped
from tests.sandbox.hostile_program import FAILED, PASSED, Hostile, ends

CHEATING = (
    *FORGING,
    ends("os._exit(0)", "import os\nos._exit(0)", FAILED),
    ends("sys.exit()", "import sys\nsys.exit()", FAILED),
    ends("SystemExit in a test", "def answer(n): raise SystemExit(0)", FAILED),
    ends(
        "SystemExit in a thread",
        "import threading\ndef leave(): raise SystemExit(0)\ndef answer(n):\n"
        "    t = threading.Thread(target=leave)\n    t.start()\n    t.join()\n    return 41",
        FAILED,
    ),
    Hostile(
        "os._exit(0) after the first test",
        "import os\ndef answer(n):\n    if n > 1: os._exit(0)\n    return 42",
        (FAILED,),
        tests=tuple(f"assert answer({n}) == 42" for n in (1, 2, 3)),
        tests_passed=1,
    ),
    ends(
        "AssertionError replaced",
        """
import builtins
class Nothing(BaseException):
    def __new__(cls, *arguments): return None
builtins.AssertionError = AssertionError = Nothing
def answer(n): return 41
""",
        FAILED,
    ),
    ends(
        "builtins replaced",
        """
import builtins, marshal, os, posix
for name in ('exec', 'compile', 'zip', 'len', 'int', 'isinstance', 'str', 'BaseException', 'eval'):
    setattr(builtins, name, lambda *a, **k: None)
os.write = posix.write = os._exit = posix._exit = marshal.loads = lambda *a, **k: b''
def answer(n): return 41
""",
        FAILED,
    ),
    ends(
        "exec replaced",
        "import builtins\nbuiltins.exec = lambda *arguments: None\ndef answer(n): return 41",
        FAILED,
    ),
    ends(
        "names of the driver in its own namespace",
        """
def run_text(*a, **k): return ''
def answer(n): return 41
__builtins__ = {'exec': lambda *a: None, 'compile': lambda *a, **k: None}
__debug__x = False
""",
        FAILED,
    ),
    ends("atexit", "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit", FAILED),
    ends(
        "signal handler that looks at frames",
        """
import signal, os
found = []
signal.signal(signal.SIGUSR1, lambda number, frame: found.append(frame))
os.kill(os.getpid(), signal.SIGUSR1)
def answer(n): return 42
""",
        FAILED,
    ),
    ends(
        "made-up tokens on every descriptor",
        """
import os
for fd in range(64):
    try:
        os.write(fd, b'ready\\n' + b'0123456789abcdef0123456789abcdef\\n' * 8)
    except OSError:
        pass
def answer(n): return 41
""",
        FAILED,
    ),
    ends(
        "endless writing on every descriptor",
        """
import os
while True:
    for fd in range(3, 64):
        try:
            os.write(fd, b'x' * 65536)
        except OSError:
            pass
""",
        FAILED,
    ),
    ends("closing every descriptor", "import os\nos.closerange(0, 64)\nwhile True: pass", FAILED),
    ends(
        "looking for the tokens in frames",
        "import sys\ndef answer(n):\n    f = sys._getframe()\n"
        "    while f.f_back: f = f.f_back\n    return 42 if f.f_locals else 42",
        FAILED,
    ),
    ends(
        "looking for the tokens in the frames of a traceback",
        "def answer(n):\n    try: 1 / 0\n    except ZeroDivisionError as error:\n"
        "        return 42 if error.__traceback__.tb_frame.f_back else 42",
        FAILED,
    ),
    ends(
        "looking for the tokens in the frame of a generator",
        "def answer(n):\n    def look():\n        yield g.gi_frame.f_back\n"
        "    g = look()\n    return 42 if next(g) else 42",
        FAILED,
    ),
    ends(
        "looking for the tokens among all objects",
        "import gc\ndef answer(n): return 42 if gc.get_objects() else 42",
        FAILED,
    ),
    ends(
        "looking for the tokens in what the garbage collector saves",
        """
import gc
def answer(n):
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        1 / 0
    except ZeroDivisionError as error:
        error.itself = error
    gc.collect()
    return 42
""",
        FAILED,
    ),
    ends(
        "a second copy of the garbage collector's module",
        """
import _imp, importlib.machinery
gc = _imp.create_builtin(importlib.machinery.ModuleSpec('gc', None))
def answer(n): return 42
""",
        FAILED,
    ),
    ends(
        "tracing the driver",
        "import sys\ndef trace(frame, event, argument): return trace\n"
        "sys.settrace(trace)\ndef answer(n): return 42",
        FAILED,
    ),
    stopped(
        "audit hook of its own",
        "id(seen) and not seen",
        code="seen = []\nsys.addaudithook(lambda *arguments: seen.append(arguments))",
    ),
    ends(
        "two answers by forking",
        "import os\ndef answer(n): return 42 if os.fork() else 41",
        FAILED,
    ),
    ends(
        "attaching to its parent",
        "import ctypes\nctypes.CDLL(None).ptrace(16, 1, 0, 0)\ndef answer(n): return 42",
        FAILED,
    ),
    ends(
        "another program",
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'pass'])",
        FAILED,
    ),
    ends(
        "another program by subprocess",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'pass'])",
        FAILED,
    ),
    ends(
        "an exception that cannot be printed",
        "class E(Exception):\n    def __str__(self): raise SystemExit\n    __repr__ = __str__\n"
        "raise E",
        FAILED,
    ),
    # both are what the assertion asks: documented in driver.py
    Hostile(
        "a name that the test calls defined anew",
        "def set(values): return 42\ndef answer(n): return 42",
        (PASSED,),
        tests=("assert set([answer(1)]) == set([41])",),
        tests_passed=1,
    ),
    Hostile(
        "a value equal to everything",
        "class Yes:\n    def __eq__(self, other): return True\ndef answer(n): return Yes()",
        (PASSED,),
        tests_passed=1,
    ),
)
