"""The program inside the sandbox that runs one solution and its tests; it imports no ``fseed``.

Started as ``python -I -S driver.py REPORT_FD NAME``. Requests come through stdin (eight bytes of
length, then ``marshal`` data), reports leave as lines through ``REPORT_FD``:

1. request (token, limits, user, code, setup); reports ``started``, and when code and setup have run
   to their end the token, else ``problem KIND TEXT``;
2. request, sent for the token: (the same token, one token a test and one more, tests); reports for
   each test its token or ``- KIND TEXT``, then the last token.

Why a pass is hard to forge. A program passes by its tokens, and each is worth one assertion: one
that leaks once its line is written says nothing new. They are random and reach the process when the
code has run to its end; the token of the first request keeps a program from asking for the second
one itself and from putting its own in its place. An exit code, a patched ``assert`` (it is
compiled), patched builtins (the driver uses a private copy), ``sys.exit``, ``os._exit``, ``atexit``
or writes to every descriptor produce no token.

Tokens and driver are in the same interpreter as the program, so what leads to them is closed. The
program runs outside the main thread and cannot install signal handlers, whose frame argument leads
to the driver. An audit hook, which Python code cannot remove, refuses ``sys._getframe``, the frames
of tracebacks and generators, tracing, ``ctypes`` and new programs, which could attach to this one.
``gc`` is a stub: with its debugging flags it would hand out frames. Built-in modules are loaded
before, and the function that would load another copy is removed. A program that leaves a thread or
starts a process cannot pass: a second reader could take tokens.

What can still be forged. A value whose ``__eq__`` says yes to everything passes its comparison:
that is what the assertion asks. Byte code crafted by hand can corrupt the interpreter's memory,
read the tokens and write any line. Nothing of this leaves the sandbox, it only buys a wrong
``passed``.
"""

# ruff: noqa: E402
import builtins

# functions defined below look names up here, so that patching ``builtins`` does not reach them
globals()["__builtins__"] = dict(vars(builtins))

import _imp
import _thread
import resource
import sys

# loaded before the guard stands: it takes the frame of a traceback while it is imported
import types
from gc import disable as disable_garbage_collection
from marshal import loads
from os.path import basename
from posix import O_RDONLY, _exit, dup, dup2, getuid, read, setgid, setgroups, setuid, write
from posix import open as open_descriptor

THREAD_STACK_BYTES = 32 * 2**20
MAX_DETAIL_CHARACTERS = 200
SOLUTION = "<solution>"
NOTHING = type(None)

# audit events that are refused: ways to the driver's frames and memory, and new programs
REFUSED_EVENTS = frozenset(
    {
        "cpython._PySys_ClearAuditHooks",
        "cpython.PyInterpreterState_New",
        "os.exec",
        "os.posix_spawn",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
        "sys._current_exceptions",
        "sys._current_frames",
        "sys._getframe",
        "sys.addaudithook",
        "sys.setprofile",
        "sys.settrace",
    }
)
REFUSED_ATTRIBUTES = frozenset({"ag_frame", "cr_frame", "gi_frame", "tb_frame"})
REFUSED_MODULES = frozenset(
    {
        "_ctypes",
        "_ctypes_test",
        "_interpreters",
        "_posixsubprocess",
        "_testcapi",
        "_testinternalcapi",
        "_xxsubinterpreters",
        "ctypes",
        "gc",
    }
)
FORK_EVENTS = frozenset({"os.fork", "os.forkpty"})

_has_forked: list[bool] = []


def guard(event: str, arguments: tuple) -> None:
    """Refuse what would lead a program to the driver; ``ValueError`` is what namedtuple expects."""
    if event in FORK_EVENTS:
        _has_forked.append(True)
    elif event in REFUSED_EVENTS or event.startswith("ctypes."):
        raise ValueError(f"{event} is refused in the sandbox")
    elif event == "object.__getattr__":
        if arguments[1] in REFUSED_ATTRIBUTES:
            raise ValueError(f"{arguments[1]} is refused in the sandbox")
    elif event == "import":
        names = {str(arguments[0]).rpartition(".")[2]}
        if arguments[1] is not None:
            names.add(basename(str(arguments[1])).partition(".")[0])
        if names & REFUSED_MODULES:
            raise ImportError(f"{arguments[0]} is refused in the sandbox")


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


def _leftovers() -> str:
    """Return what would make a pass worthless: processes and threads that the program started."""
    if _has_forked:
        return "error the program started a process"
    return "error the program left a thread" if _thread._count() > 1 else ""


def close_imports() -> None:
    """Load the built-in modules, put stubs in place of two, and keep others from being loaded.

    The functions of the stubs are types: a function of this file would lead to its globals.
    """
    for name in sys.builtin_module_names:
        if name not in REFUSED_MODULES:
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


def judge(request_fd: int, report_fd: int, token: str, code: str, setup: str) -> None:
    """Run code, setup and tests, and report each."""
    names = sys.modules["__main__"].__dict__
    _report(report_fd, "started")
    problem = run_text(code, names, label=SOLUTION)
    problem = problem or run_text(setup, names, label="<setup>") or _leftovers()
    if problem:
        _report(report_fd, f"problem {problem}")
        return
    _report(report_fd, token)
    same_token, tokens, tests = read_request(request_fd)
    if same_token != token:
        return
    for test_token, test in zip(tokens, tests, strict=False):
        problem = run_text(test, names, label="<test>")
        if _has_forked:
            problem = "error the program started a process"
        _report(report_fd, f"- {problem}" if problem else test_token)
    _report(report_fd, tokens[-1])


def main() -> None:
    """Set the process up, run the solution in a thread of its own and leave with it."""
    report_fd = int(sys.argv[1])
    request_fd = dup(0)
    dup2(open_descriptor("/dev/null", O_RDONLY), 0)
    token, limits, user, code, setup = read_request(request_fd)
    apply_limits(limits, user)
    sys.argv[:] = [""]
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    # its callbacks would be code of the program that runs between two lines of the driver
    disable_garbage_collection()
    close_imports()
    _thread.stack_size(THREAD_STACK_BYTES)
    sys.addaudithook(guard)

    def work() -> None:
        try:
            judge(request_fd, report_fd, token, code, setup)
        except MemoryError:
            _exit(72)
        finally:
            _exit(0)

    _thread.start_new_thread(work, ())
    waiting = _thread.allocate_lock()
    waiting.acquire()
    waiting.acquire()


main()
