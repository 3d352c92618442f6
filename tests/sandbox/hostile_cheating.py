"""Programs that try to pass without being right."""

from tests.sandbox.hostile_outside import stopped
from tests.sandbox.hostile_program import FAILED, PASSED, Hostile, ends

CHEATING = (
    ends("os._exit(0)", "import os\nos._exit(0)", FAILED),
    ends("sys.exit()", "import sys\nsys.exit()", FAILED),
    ends("SystemExit in a test", "def answer(n): raise SystemExit(0)", FAILED),
    ends(
        "SystemExit in a thread",
        "import threading\ndef leave(): raise SystemExit(0)\n"
        "t = threading.Thread(target=leave)\nt.start()\nt.join()\ndef answer(n): return 41",
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
        "reading the second request in a thread",
        """
import os, threading
def steal():
    for fd in range(3, 64):
        try:
            os.read(fd, 8)
        except OSError:
            pass
threading.Thread(target=steal, daemon=True).start()
def answer(n): return 42
""",
        FAILED,
    ),
    ends(
        "reading the second request in a callback of the garbage collector",
        """
import gc, os, marshal
def steal(phase, info):
    for fd in range(3, 12):
        if not os.get_blocking(fd):
            continue
        os.set_blocking(fd, False)
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b''
        os.set_blocking(fd, True)
        if data:
            at = data.find(b'(')
            tokens, tests = marshal.loads(data[at:])
            for line in tokens:
                for fd in range(3, 12):
                    try:
                        os.write(fd, line.encode() + b'\\n')
                    except OSError:
                        pass
gc.set_threshold(1)
gc.callbacks.append(steal)
def answer(n): return 41
""",
        FAILED,
    ),
    ends(
        "asking for the second request too early",
        """
import os, marshal, time
for fd in range(3, 12):
    try:
        os.write(fd, b'ready\\n')
    except OSError:
        pass
time.sleep(0.2)
for fd in range(3, 12):
    try:
        os.set_blocking(fd, False)
        data = os.read(fd, 65536)
        for line in marshal.loads(data[8:])[1]:
            for out in range(3, 12):
                try:
                    os.write(out, line.encode() + b'\\n')
                except OSError:
                    pass
    except OSError:
        pass
os._exit(0)
""",
        FAILED,
    ),
    ends(
        "a second request of its own",
        """
import os, marshal, stat
def steal():
    for fd in saved:
        os.set_blocking(fd, False)
        try:
            data = os.read(fd, 65536)
        except OSError:
            continue
        for line in marshal.loads(data[8:])[1]:
            for out in range(3, 12):
                try:
                    os.write(out, line.encode() + b'\\n')
                except OSError:
                    pass
saved = []
for fd in range(3, 12):
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        readable = os.get_blocking(fd) and os.read(fd, 0) == b''
    except OSError:
        continue
    if is_pipe and readable:
        saved.append(os.dup(fd))
        receive, send = os.pipe()
        data = marshal.dumps(('', ['a', 'b'], ['steal()']))
        os.write(send, len(data).to_bytes(8, 'big') + data)
        os.dup2(receive, fd)
        break
def answer(n): return 41
""",
        FAILED,
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
    # the assertion asks the value, and the value says yes: documented in driver.py
    Hostile(
        "a value equal to everything",
        "class Yes:\n    def __eq__(self, other): return True\ndef answer(n): return Yes()",
        (PASSED,),
        tests_passed=1,
    ),
)
