"""The command line that starts the driver at each level of isolation."""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from fseed.sandbox.verdict import SandboxOptions

LEVELS = ("bubblewrap", "namespaces", "none")

# what both of the levels that isolate keep a program away from
ISOLATES = ("network", "files", "processes")

# the user inside; nobody on most systems
BOX_USER = 65534
# bubblewrap maps one user, and where that is the host's root the kernel counts no processes; so as
# root it makes no user namespace, and each run draws a user of its own, or the limits on processes
# of two runs would add up. systemd leaves this range unused
BUBBLEWRAP_USERS = range(2**31, 2**32 - 2)

# what a program sees of the environment; enter_namespaces.py has the same
BOX_ENVIRONMENT = {"HOME": "/box", "TMPDIR": "/box", "LANG": "C.UTF-8", "PATH": "/nonexistent"}

_HERE = Path(__file__).parent
_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64")
_LIBRARY_CACHE = "/etc/ld.so.cache"


def driver_user(level: str) -> int | None:
    """Return the user that the driver becomes when it starts as root, if any."""
    if level == "none":
        return None
    return secrets.choice(BUBBLEWRAP_USERS) if level == "bubblewrap" else BOX_USER


def build_command(
    level: str, options: SandboxOptions, *, report_fd: int, info_fd: int | None, name: str
) -> list[str]:
    """Return the command that starts the driver; it inherits ``report_fd``.

    Through ``info_fd`` bubblewrap tells of its first process; the other levels have no use for it.
    ``name`` stands at the end of every command line of the sandbox, for whoever looks for it.
    """
    driver = [str(report_fd), name]
    if level == "bubblewrap":
        start = [*_bubblewrap(options), "--info-fd", str(info_fd)]
        return [*start, interpreter(), "-I", "-S", "/driver.py", *driver]
    if level == "namespaces":
        return [*_namespaces(options), *driver]
    return [interpreter(), "-I", "-S", str(_HERE / "driver.py"), *driver]


def interpreter() -> str:
    """Return the real path of the interpreter below any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _namespaces(options: SandboxOptions) -> list[str]:
    """Return the command of our own helper, up to the arguments of the driver."""
    start = [interpreter(), "-I", "-S", str(_HERE / "enter_namespaces.py")]
    facts = [str(options.file_mib), str(BOX_USER), interpreter(), str(_HERE / "driver.py")]
    return [*start, *facts, *visible_paths(), "--", *hidden_folders(), "--"]


def _bubblewrap(options: SandboxOptions) -> list[str]:
    """Return the command of bubblewrap; root keeps what the driver needs to become another user."""
    is_root = os.geteuid() == 0
    program = shutil.which("bwrap") or "bwrap"
    parts = [program, "--die-with-parent", "--new-session"]
    parts += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    parts += ["--cap-drop", "ALL"]
    if is_root:
        parts += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        parts += ["--unshare-user", "--uid", str(BOX_USER), "--gid", str(BOX_USER)]
        parts += ["--disable-userns"] if _can_disable_user_namespaces(program) else []
    # made by itself, a folder above a path would have the mode that it has outside
    parents = {str(folder) for path in visible_paths() for folder in Path(path).parents}
    for folder in sorted(parents - {"/"}):
        parts += ["--perms", "0755", "--dir", folder]
    for path in visible_paths():
        parts += ["--ro-bind", path, path]
    for path in hidden_folders():
        parts += ["--tmpfs", path, "--remount-ro", path]
    for path in ("/dev/null", "/dev/zero", "/dev/urandom"):
        parts += ["--dev-bind", path, path]
    parts += ["--perms", "1777" if is_root else "0700", "--size", str(options.file_mib * 2**20)]
    parts += ["--tmpfs", "/box", "--chdir", "/box"]
    parts += ["--ro-bind", str(_HERE / "driver.py"), "/driver.py", "--remount-ro", "/"]
    parts.append("--clearenv")
    for name, value in BOX_ENVIRONMENT.items():
        parts += ["--setenv", name, value]
    return parts


@cache
def _can_disable_user_namespaces(program: str) -> bool:
    """Return whether this bubblewrap can forbid new user namespaces inside (0.8 and later)."""
    try:
        found = subprocess.run([program, "--help"], capture_output=True, check=False)
    except OSError:
        # that the program does not start is said where it is needed
        return False
    return b"--disable-userns" in found.stdout + found.stderr


@cache
def visible_paths() -> tuple[str, ...]:
    """Return the host paths that the interpreter needs; a path below another is left out."""
    # without these, a virtual environment's own folder would be the platform's
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    stdlib = {sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")}
    own = {interpreter(), *stdlib, f"{sys.base_prefix}/lib"}
    system = {path for path in (*_SYSTEM_LIBRARIES, _LIBRARY_CACHE) if os.path.exists(path)}
    paths = sorted(own | system)
    return tuple(path for path in paths if not any(path.startswith(f"{other}/") for other in paths))


@cache
def hidden_folders() -> tuple[str, ...]:
    """Return the folders of installed packages below the visible paths."""
    parents = {sysconfig.get_path("stdlib"), "/usr/lib/python3", "/lib/python3"}
    visible = visible_paths()
    return tuple(
        folder
        for parent in sorted(parents)
        for folder in (f"{parent}/site-packages", f"{parent}/dist-packages")
        if os.path.isdir(folder) and any(folder.startswith(f"{path}/") for path in visible)
    )
