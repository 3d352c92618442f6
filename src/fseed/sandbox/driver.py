"""The program inside the sandbox that runs one solution and its tests; it imports no ``fseed``.

Started as ``python -I -S driver.py REPORT_FD NAME``. Requests come through stdin (eight bytes of
length, then ``marshal`` data), reports leave as lines through ``REPORT_FD``:

1. request ([token], limits, user, code, setup); reports ``started``, and when code and setup have
   run to their end the token, else ``problem KIND TEXT``;
2. request, sent for the token: (the same token, one token a test and one more, tests); reports for
   each test its token or ``- KIND TEXT``, then the last token.

Why a pass is hard to forge. A program passes by its tokens, and each is worth one assertion: one
that leaks once its line is written says nothing new. They are random and reach the process when the
code has run to its end; the token of the first request keeps a program from asking for the second
one itself and from putting its own in its place. An exit code, a patched ``assert`` (it is
compiled), patched builtins (the driver uses a private copy), ``sys.exit``, ``os._exit``, ``atexit``
or writes to every descriptor produce no token.

Tokens and driver are in the same interpreter as the program, so the ways to them that are open to
Python code are closed. Nothing of the program runs while the second request is read: until then no
thread can start, no signal has a handler in Python, the garbage collector is off, and both pipes
have to be those of the start. The driver's frames stay out of sight: signal handlers, whose
argument is a frame, cannot be installed, and an audit hook, which Python code cannot remove,
refuses ``sys._getframe``, the frames of tracebacks and generators, tracing, profiling, monitoring,
``ctypes``, extension modules from outside the standard library and new programs, which could attach
to this one. ``gc`` is a stub: it would hand out frames. Built-in modules are loaded before, and the
function that would load another copy is removed. A child of a fork forgets the tokens, and its
parent cannot pass.

What can still be forged. A test is run in the program's own names: a value whose ``__eq__`` says
yes to everything passes its comparison, and so does a program that defines ``set`` or ``len`` anew
where a test calls them. Machine code can read the tokens and write any line: crafted byte code that
corrupts the interpreter, or a shared library that the program writes and has a C library load (not
at level ``namespaces``, where its directory holds no code). Without a sandbox, ``/proc`` shows the
memory and the pipes of this process. A way open to Python code that nobody thought of may exist. A
forgery buys a wrong ``passed``; what keeps a program from the machine is outside this process.
"""

# ruff: noqa: E402
import builtins

# functions defined below look names up here, so that patching ``builtins`` does not reach them
globals()["__builtins__"] = dict(vars(builtins))

import _imp
import _signal  # pyright: ignore[reportMissingImports]
import _thread
import os
import posix
import resource
import sys

# loaded before the guard stands: it takes the frame of a traceback while it is imported
import types
from gc import disable as disable_garbage_collection
from marshal import loads
from posix import O_RDONLY, _exit, dup, dup2, fstat, getuid, read, setgid, setgroups, setuid, write
from posix import open as open_descriptor

THREAD_STACK_BYTES = 32 * 2**20
MAX_DETAIL_CHARACTERS = 200
SOLUTION = "<solution>"
NOTHING = type(None)
FORKED = "error the program started a process"

# audit events that are refused: ways to the driver's frames and memory, and new programs
_EVENTS = """
cpython._PySys_ClearAuditHooks cpython.PyInterpreterState_New os.exec os.posix_spawn os.system
pty.spawn sqlite3.enable_load_extension subprocess.Popen sys._current_exceptions
sys._current_frames sys._getframe sys.addaudithook sys.setprofile sys.settrace
"""
REFUSED_EVENTS = frozenset(_EVENTS.split())
REFUSED_ATTRIBUTES = frozenset({"ag_frame", "cr_frame", "gi_frame", "tb_frame"})
REFUSED_MODULES = frozenset({"_ctypes", "_posixsubprocess", "_tkinter", "ctypes", "gc"})
# subinterpreters, and the modules that test the interpreter
REFUSED_PREFIXES = ("_interp", "_test", "_xx", "xx")
EXTENSION_FOLDERS = frozenset(folder for folder in sys.path if folder.endswith("/lib-dynload"))

# what stands in place of a function of a module: made in names of its own, as the globals of a
# function of this file would lead to the tokens
DOOR = """
def door(*arguments, **options):
    if function is None:
        raise kind(text)
    return function(*arguments, **options)
"""
THREAD_STARTERS = ("start_new_thread", "start_new", "start_joinable_thread")

_has_forked: list[bool] = []
# those not yet written; in no other name, so that a child of a fork can forget them
_tokens: list[str] = []


def guard(event: str, arguments: tuple) -> None:
    """Refuse what would lead a program to the driver; ``ValueError`` is what namedtuple expects.

    Only exact strings are looked at: the methods of another type would be the program's.
    """
    if event in ("os.fork", "os.forkpty"):
        _has_forked.append(True)
    elif event in REFUSED_EVENTS or event.startswith(("ctypes.", "sys.monitoring.")):
        raise ValueError(f"{event} is refused in the sandbox")
    elif event == "object.__getattr__":
        if type(arguments[1]) is not str or arguments[1] in REFUSED_ATTRIBUTES:
            raise ValueError("a frame is refused in the sandbox")
    elif event == "import":
        _guard_import(arguments[0], arguments[1])


def _guard_import(name: str, path: str | None) -> None:
    """Refuse modules by name and by file; only an extension module comes with its ``path``."""
    if type(name) is not str or type(path) not in (str, NOTHING):
        raise ImportError("a module whose name is no string is refused in the sandbox")
    folder, _, file = (path or "").rpartition("/")
    if path is not None and folder not in EXTENSION_FOLDERS:
        raise ImportError("an extension module from elsewhere is refused in the sandbox")
    for found in (name.rpartition(".")[2], file.partition(".")[0]):
        if found in REFUSED_MODULES or found.startswith(REFUSED_PREFIXES):
            raise ImportError(f"{found} is refused in the sandbox")


def read_request(descriptor: int) -> tuple:
    """Return the next request; a closed pipe ends the process."""
    return loads(_read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, 8), "big")))


def _read_exactly(descriptor: int, size: int) -> bytes:
    """Return ``size`` bytes."""
    parts = []
    while size:
        part = read(descriptor, min(size, 2**20))
        if not part:
            _exit(71)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def apply_limits(limits: dict[str, int], user: int | None) -> None:
    """Lower the limits of this process for good, and leave root where there is one to leave.

    The change of user also hides this process's memory from a tracer.
    """
    if user is not None and getuid() == 0:
        setgroups([])
        setgid(user)
        setuid(user)
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def run_text(text: str, names: dict, *, label: str) -> str:
    """Run one text in ``names``; return an empty string or the kind and text of the problem."""
    stage = "syntax" if label == SOLUTION else "error"
    try:
        program = compile(text, label, "exec", dont_inherit=True, optimize=0)
        stage = "error"
        exec(program, names)
    except MemoryError:
        return "memory MemoryError"
    except BaseException as error:
        return f"{stage} {_describe(error)}"
    return ""


def _describe(error: BaseException) -> str:
    """Return one printable line about an exception whose methods may be hostile."""
    try:
        text = f"{type(error).__name__}: {error}"
        return "".join(c if c.isprintable() else " " for c in text[:MAX_DETAIL_CHARACTERS])
    except BaseException:
        return "an exception that cannot be printed"


def _report(descriptor: int, line: str) -> None:
    """Write one line."""
    data = line.encode("ascii", "backslashreplace") + b"\n"
    while data:
        data = data[write(descriptor, data) :]


def pipes(*descriptors: int) -> list[tuple[int, int]]:
    """Return what tells one open pipe from another and from a file, else raise ``OSError``."""
    return [(status.st_dev, status.st_ino) for status in map(fstat, descriptors)]


def shut(module: types.ModuleType, name: str, kind: type, text: str) -> dict:
    """Put a function in place of another that raises; return its names, where it can be opened."""
    door = {"__builtins__": builtins, "function": None, "kind": kind, "text": text}
    exec(DOOR, door)
    setattr(module, name, door["door"])
    return door


def shut_functions() -> list[tuple]:
    """Shut what starts threads, handles signals or takes memory that no limit counts.

    Returns for each that starts threads the names of its door and the function.
    """
    for module in (os, posix):
        if hasattr(module, "memfd_create"):
            shut(module, "memfd_create", OSError, "memory files are refused in the sandbox")
    shut(_signal, "signal", ValueError, "signal handlers are refused in the sandbox")
    found = [(name, getattr(_thread, name)) for name in THREAD_STARTERS if hasattr(_thread, name)]
    text = "threads can start once the code has run to its end"
    return [(shut(_thread, name, RuntimeError, text), function) for name, function in found]


def close_imports() -> None:
    """Load the built-in modules, put stubs in place of two, and keep others from being loaded.

    The functions of the stubs are types: a function of this file would lead to its globals.
    """
    for name in sys.builtin_module_names:
        if name not in REFUSED_MODULES and not name.startswith(REFUSED_PREFIXES):
            __import__(name)
    stubs = {
        "gc": {"collect": int, "isenabled": bool, "enable": NOTHING, "disable": NOTHING},
        # asyncio and subprocess can be imported, but start nothing
        "_posixsubprocess": {"fork_exec": None},
    }
    for name, functions in stubs.items():
        sys.modules[name] = stub = types.ModuleType(name)
        stub.__dict__.update(functions)
    del _imp.create_builtin


def judge(request_fd: int, report_fd: int, code: str, setup: str, doors: list[tuple]) -> None:
    """Run code, setup and tests, and report each."""
    names = sys.modules["__main__"].__dict__
    before = pipes(request_fd, report_fd)
    _report(report_fd, "started")
    problem = run_text(code, names, label=SOLUTION) or run_text(setup, names, label="<setup>")
    if not problem and _has_forked:
        problem = FORKED
    if not problem and pipes(request_fd, report_fd) != before:
        problem = "error the program replaced a pipe of the sandbox"
    if problem:
        _report(report_fd, f"problem {problem}")
        return
    _report(report_fd, _tokens[0])
    tests = read_tests(request_fd)
    for door, function in doors:
        door["function"] = function
    for test in tests:
        problem = run_text(test, names, label="<test>")
        if _has_forked:
            problem = FORKED
        _report(report_fd, f"- {problem}" if problem else _tokens[0])
        del _tokens[0]
    _report(report_fd, _tokens[0])


def read_tests(request_fd: int) -> list[str]:
    """Return the tests of the second request and keep its tokens; leave if it is another's."""
    token, tokens, tests = read_request(request_fd)
    if token != _tokens[0]:
        _exit(73)
    _tokens[:] = tokens
    return tests


def main() -> None:
    """Set the process up, run the solution in a thread of its own and leave with it."""
    report_fd = int(sys.argv[1])
    request_fd = dup(0)
    dup2(open_descriptor("/dev/null", O_RDONLY), 0)
    _tokens[:], limits, user, code, setup = read_request(request_fd)
    posix.register_at_fork(after_in_child=_tokens.clear)
    apply_limits(limits, user)
    sys.argv[:] = [""]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    # its callbacks would be code of the program that runs between two lines of the driver
    disable_garbage_collection()
    close_imports()
    _thread.stack_size(THREAD_STACK_BYTES)
    start_thread = _thread.start_new_thread
    # Python's handler would raise in the main thread, whose end runs code of the program
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    doors = shut_functions()
    sys.addaudithook(guard)

    def work() -> None:
        try:
            judge(request_fd, report_fd, code, setup, doors)
        except MemoryError:
            _exit(72)
        finally:
            _exit(0)

    start_thread(work, ())
    waiting = _thread.allocate_lock()
    waiting.acquire()
    waiting.acquire()


main()
