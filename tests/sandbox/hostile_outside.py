"""Programs that try to get out; each asserts that it was stopped, so it is expected to pass."""

from pathlib import Path

from tests.sandbox.hostile_program import PASSED, SECRET, TRACE, Hostile

_BLOCKED = """
import os, socket, sys
def blocked(action, *arguments, **options):
    try:
        action(*arguments, **options)
    except (OSError, ImportError, ValueError, PermissionError):
        return True
    return False
"""


def stopped(
    name: str, *tests: str, code: str = "", levels: tuple[str, ...] | None = None
) -> Hostile:
    """Return a program that asserts that its attempts failed."""
    return Hostile(
        name,
        _BLOCKED + code,
        (PASSED,),
        tests=tuple(f"assert {test}" for test in tests),
        tests_passed=len(tests),
        levels=levels or ("bubblewrap", "namespaces"),
    )


OUTSIDE = (
    stopped(
        "TCP to another host", "blocked(socket.create_connection, ('192.0.2.1', 80), timeout=0.3)"
    ),
    stopped(
        "TCP to this host", "blocked(socket.create_connection, ('127.0.0.1', 22), timeout=0.3)"
    ),
    stopped(
        "UDP",
        "blocked(s.sendto, b'x', ('192.0.2.1', 53))",
        code="s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    ),
    stopped("DNS", "blocked(socket.getaddrinfo, 'example.org', 80)"),
    stopped("network interfaces", "{n for _, n in socket.if_nameindex()} <= {'lo'}"),
    stopped(
        "Unix sockets",
        "blocked(s.connect, '\\0/tmp/.X11-unix/X0')",
        "blocked(s.connect, '/run/dbus/system_bus_socket')",
        code="s = socket.socket(socket.AF_UNIX)",
    ),
    stopped(
        "reading system files",
        "blocked(open, '/etc/passwd')",
        "blocked(open, '/etc/shadow')",
        "blocked(open, '/proc/self/environ')",
        "blocked(open, '/proc/1/cmdline')",
        "blocked(os.listdir, '/sys')",
        "blocked(os.listdir, '/home')",
        "blocked(os.listdir, '/tmp')",
        "blocked(open, '/dev/mem')",
    ),
    stopped(
        "reading the project",
        f"blocked(open, {__file__!r})",
        f"blocked(os.listdir, {str(Path(__file__).parent)!r})",
        "set(os.listdir('/')).isdisjoint({'home', 'proc', 'run', 'srv', 'sys', 'tmp', 'var'})",
    ),
    stopped(
        "reading the home directory",
        "os.listdir(os.path.expanduser('~')) == []",
        "os.getcwd() == '/box'",
    ),
    stopped(
        "writing outside",
        f"blocked(open, '/tmp/{TRACE}', 'w')",
        f"blocked(open, '/{TRACE}', 'w')",
        f"blocked(open, '../{TRACE}', 'w')",
        f"blocked(open, '/var/tmp/{TRACE}', 'w')",
        f"blocked(open, '/dev/shm/{TRACE}', 'w')",
        f"blocked(open, os.__file__ + '{TRACE}', 'w')",
        "blocked(os.remove, os.__file__)",
        "blocked(os.chmod, os.__file__, 0o777)",
    ),
    stopped("symbolic links", "blocked(open, 'a')", code="os.symlink('/etc/passwd', 'a')"),
    stopped(
        "hard links and devices",
        "blocked(os.link, os.__file__, 'a')",
        "blocked(os.mknod, 'b', 0o600 | 0o020000, os.makedev(1, 1))",
    ),
    stopped(
        "secrets in the environment",
        f"{SECRET!r} not in os.environ",
        "set(os.environ) <= {'HOME', 'LANG', 'LC_CTYPE', 'PATH', 'PWD', 'TMPDIR'}",
    ),
    stopped(
        "becoming root",
        "os.getuid() != 0 and os.geteuid() != 0",
        "blocked(os.setuid, 0)",
        "blocked(os.setresuid, 0, 0, 0)",
        "blocked(os.chroot, '.')",
        "blocked(os.nice, -5)",
    ),
    # new user namespaces: test_isolation.py, as they need machine code or a process with one thread
    stopped(
        "calls of the C library",
        "blocked(__import__, 'ctypes')",
        "blocked(__import__, '_ctypes')",
        "blocked(__import__, '_tkinter')",
    ),
    stopped(
        "raising its limits",
        "blocked(resource.setrlimit, resource.RLIMIT_AS, (2**40, 2**40))",
        "blocked(resource.setrlimit, resource.RLIMIT_NPROC, (4096, 4096))",
        "resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)",
        code="import resource",
    ),
    stopped(
        "processes of the host",
        "blocked(os.kill, 1, 0) or os.getpid() < 10",
        "all(blocked(os.kill, pid, 9) for pid in range(20, 3000))",
    ),
    stopped(
        "installed packages",
        "blocked(__import__, 'numpy')",
        "blocked(__import__, 'fseed')",
        "not any(os.listdir(p) for p in paths if os.path.isdir(p))",
        code="import sysconfig\n"
        "paths = [sysconfig.get_path('purelib'), '/usr/lib/python3/dist-packages']\n"
        "sys.path += paths",
    ),
    stopped(
        "a huge file",
        "blocked(write)",
        "os.path.getsize('a') <= 4 * 2**20",
        code="""
def write():
    with open('a', 'wb', buffering=0) as file:
        for _ in range(1024):
            file.write(bytes(2**20))
""",
    ),
    stopped(
        "many large files",
        "blocked(write)",
        levels=("bubblewrap", "namespaces"),
        code="""
def write():
    for number in range(64):
        with open(str(number), 'wb') as file:
            file.write(bytes(2**20))
""",
    ),
    stopped(
        "many files",
        "blocked(create)",
        levels=("namespaces",),
        code="""
def create():
    for number in range(5000):
        open(str(number), 'w').close()
""",
    ),
    stopped(
        "machine code of its own",
        "not blocked(load, original)",
        "blocked(load, shutil.copy(original, os.path.basename(original)))",
        levels=("namespaces",),
        code="""
import glob, importlib.machinery, shutil, sysconfig
original = sorted(glob.glob(sysconfig.get_path('platstdlib') + '/lib-dynload/_[bd]*.so'))[0]
def load(path):
    name, path = os.path.basename(path).partition('.')[0], os.path.abspath(path)
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    loader.create_module(importlib.machinery.ModuleSpec(name, loader, origin=path))
""",
    ),
    stopped("reading stdin", "os.read(0, 1) == b''"),
)
