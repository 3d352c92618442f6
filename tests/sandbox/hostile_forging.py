"""Programs that try to take the tokens that a pass consists of, and to write them themselves."""

from tests.sandbox.hostile_program import FAILED, Hostile, ends

# what these programs share: the two pipes of the driver, and taking the second request
_TAKING = """
import _thread, atexit, glob, marshal, os, signal, sys, time

def find():
    readable, writable = [], []
    for fd in range(3, 12):
        try:
            os.read(fd, 0)
            readable.append(fd)
        except OSError:
            try:
                os.write(fd, b'')
                writable.append(fd)
            except OSError:
                pass
    return readable[0], writable[0]

def read_whole(fd, size):
    data = b''
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data

def take(source, target):
    size = int.from_bytes(read_whole(source, 8), 'big')
    for token in marshal.loads(read_whole(source, size))[1]:
        os.write(target, token.encode() + b'\\n')
    os._exit(0)

def swap(request):
    source, (receive, send) = os.dup(request), os.pipe()
    os.dup2(receive, request)
    return source

def answer(n): return 41
request, report = find()
"""

# an extension module under another name, which a subclass of ``str`` hides from the audit hook
_LOADING = """
import _imp, importlib.machinery
class Hidden(str):
    def __str__(self): return 'harmless'
    def __eq__(self, other): return False
    def __hash__(self): return 0
def load(name):
    found = [f for d in sys.path for f in glob.glob(d + '/' + name + '.*.so')]
    os.symlink(found[0], 'x.so')
    spec = importlib.machinery.ModuleSpec(Hidden(name), None, origin='/box/x.so')
    module = _imp.create_dynamic(spec)
    _imp.exec_dynamic(module)
    return module
"""


def takes(name: str, code: str) -> Hostile:
    """Return a program that must not pass though it takes what it can get."""
    return ends(name, _TAKING + code, FAILED)


FORGING = (
    takes(
        "thread hidden by a patched count takes the second request",
        "source = swap(request)\n_thread._count = int\n"
        "_thread.start_new_thread(take, (source, report))",
    ),
    takes(
        "thread that is not counted yet takes the second request",
        """
receive, send = os.pipe()
source = os.dup(request)
def run():
    os.dup2(receive, request)
    take(source, report)
sys.setswitchinterval(1000)
_thread.start_new_thread(run, ())
""",
    ),
    takes(
        "thread of the threading module takes the second request",
        "import threading\nsource = swap(request)\n"
        "threading.Thread(target=take, args=(source, report), daemon=True).start()",
    ),
    takes(
        "interrupt whose hook takes the second request",
        """
source = os.dup(request)
sys.excepthook = lambda *a: take(source, report)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
""",
    ),
    takes(
        "interrupt_main whose hook takes the second request",
        "source = swap(request)\nsys.excepthook = lambda *a: take(source, report)\n"
        "_thread.interrupt_main()",
    ),
    takes(
        "interrupt at whose exit the second request is taken",
        """
source = os.dup(request)
atexit.register(take, source, report)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
""",
    ),
    takes(
        "interrupt whose hook installs a signal handler",
        """
got = []
def hook(*a):
    signal.signal(signal.SIGUSR1, lambda n, f: got.append(f))
    os.kill(os.getpid(), signal.SIGUSR1)
    while True: time.sleep(0.01)
sys.excepthook = hook
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
def answer(n): return 42
""",
    ),
    takes(
        "real _ctypes by a name that is no string",
        _LOADING + "load('_ctypes')\ndef answer(n): return 42",
    ),
    takes(
        "real _posixsubprocess by a name that is no string",
        _LOADING + "load('_posixsubprocess')\ndef answer(n): return 42",
    ),
    takes(
        "driver fed with its own token through a file",
        """
source, target = os.dup(request), os.dup(report)
tokens = next(s for s in ('x%d' % i for i in range(999)) if hash(s) & 7 == 6)
tests = next(t for t in (('steal() #%d' % i,) for i in range(999)) if hash(t) & 7 == 7)
body = b'>\\3\\0\\0\\0' + marshal.dumps(tokens, 2) + marshal.dumps(tests, 2) + b'z '
file = os.open('f', os.O_RDWR | os.O_CREAT)
os.write(file, (len(body) + 33).to_bytes(8, 'big') + body)
os.dup2(os.open('f', os.O_WRONLY | os.O_APPEND), report)
os.dup2(os.open('f', os.O_RDONLY), request)
def steal():
    os.write(target, open('f', 'rb').read()[-33:])
    take(source, target)
""",
    ),
    takes(
        "monitoring callback takes the second request",
        """
m = sys.monitoring
def look(code, offset, value):
    if code.co_name == '_report': take(request, report)
m.use_tool_id(3, 'x')
m.register_callback(3, m.events.PY_RETURN, look)
m.set_events(3, m.events.PY_RETURN)
""",
    ),
    takes(
        "child of a test, whose main thread it is, looks at frames",
        """
def answer(n):
    if os.fork() == 0:
        got = []
        try:
            signal.signal(signal.SIGUSR1, lambda number, frame: got.append(frame))
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
            frame, tokens = got[0], None
            while not tokens:
                tokens = frame.f_locals.get('tokens') or frame.f_globals.get('_tokens')
                frame = frame.f_back
            for token in tokens:
                os.write(report, token.encode() + b'\\n')
        finally:
            os._exit(0)
    time.sleep(0.3)
    return 41
""",
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
)
