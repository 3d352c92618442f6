"""The program that builds the ``namespaces`` sandbox around the driver; it imports no ``fseed``.

Started on the host as ``python -I -S enter_namespaces.py BOX_MIB BOX_USER PYTHON DRIVER BIND...
-- MASK... -- REPORT_FD NAME``; the last two are the arguments of the driver.

Three processes: this one, which moves itself into new user, mount, network, IPC and host-name
namespaces and waits; the first process of a new pid namespace, whose death makes the kernel kill
every process in it; and the driver. Each dies with its parent. SIGTERM to this one kills the pid
namespace and returns when it is empty.

The root directory inside is a small read-only tmpfs with the interpreter and the system's shared
libraries bound read-only, three devices and ``/box``, a writable tmpfs of BOX_MIB from which
nothing can be executed or mapped as code. There is no ``/proc``, ``/sys``, ``/home`` or ``/tmp``.
The process is in a chroot below the root of its mount namespace, where the kernel refuses new user
namespaces.

Users: for root, inner 0 and BOX_USER are the same numbers outside, and the driver becomes BOX_USER,
so that the limit on processes binds. For anybody else, and for the root of a container that has no
such user, BOX_USER inside is that user outside, the only mapping the kernel allows without help,
and the driver loses its capabilities when it starts.
"""

import ctypes
import os
import signal
import struct
import sys
from types import FrameType

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME = 32, 1024, 2048
MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 4096, 16384, 1 << 18, 1 << 21
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
# the same number on every architecture; Linux 5.12 and later
SYS_MOUNT_SETATTR = 442
# statvfs flag -> mount flag, for those that a remount has to keep
KEPT_FLAGS = {4: MS_NODEV, 8: MS_NOEXEC, 1024: MS_NOATIME, 2048: MS_NODIRATIME, 4096: MS_RELATIME}

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
MAX_FILES = 1024
BOX_ENVIRONMENT = {"HOME": "/box", "TMPDIR": "/box", "LANG": "C.UTF-8", "PATH": "/nonexistent"}

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library; raises ``OSError`` with name and first arguments."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments[:2]}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None) -> None:
    """Mount; paths and options as text."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    call("mount", *texts, ctypes.c_ulong(flags), data)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; a change of user undoes it."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter_user_namespace(box_user: int) -> None:
    """Move into new namespaces; a helper that stays outside writes the mapping of users."""
    user, group, target = os.geteuid(), os.getegid(), os.getpid()
    receive, send = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(send)
        try:
            # nothing comes when ``unshare`` failed
            if os.read(receive, 1) != b".":
                os._exit(1)
            write_mapping(target, user, group, box_user)
        except OSError as error:
            print(f"mapping of users: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    call("unshare", CLONE_NEWUSER | flags)
    os.write(send, b".")
    if os.waitpid(helper, 0)[1] != 0:
        os._exit(1)
    os.close(send)
    os.close(receive)


def write_mapping(target: int, user: int, group: int, box_user: int) -> None:
    """Write the user and group mapping of process ``target``."""
    if user == 0 and is_mapped(box_user):
        users = groups = f"0 0 1\n{box_user} {box_user} 1\n"
    else:
        users, groups = f"{box_user} {user} 1\n", f"{box_user} {group} 1\n"
        _write(f"/proc/{target}/setgroups", "deny")
    _write(f"/proc/{target}/uid_map", users)
    _write(f"/proc/{target}/gid_map", groups)


def is_mapped(number: int) -> bool:
    """Return whether a user and group number exists here; in a container it may not."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            rows = [[int(text) for text in line.split()] for line in file]
        if not any(start <= number < start + length for start, _, length in rows):
            return False
    return True


def _write(path: str, text: str) -> None:
    """Write ``text`` in one call, which these files require."""
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def build_root(
    driver: str, binds: list[str], masks: list[str], *, box_mib: int, box_user: int
) -> None:
    """Replace the root directory by the one described at the head of this file."""
    with open(driver, encoding="utf-8") as file:
        driver_text = file.read()
    mount("none", "/", None, MS_REC | MS_PRIVATE, None)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755")
    os.chdir("/tmp")
    os.mkdir("old")
    os.mkdir("new")
    call("pivot_root", b".", b"old")
    os.chdir("/")
    for path in (*binds, *DEVICES):
        bind_read_only(path)
    for path in masks:
        mount("tmpfs", f"/new{path}", "tmpfs", MS_RDONLY | MS_NOSUID, "size=4k,mode=0755")
    with open("/new/driver.py", "w", encoding="utf-8") as file:
        file.write(driver_text)
    os.mkdir("/new/box")
    options = f"size={box_mib}m,nr_inodes={MAX_FILES},mode=0700,uid={box_user},gid={box_user}"
    mount("tmpfs", "/new/box", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    call("umount2", b"/old", MNT_DETACH)
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, None)
    os.chroot("/new")
    os.chdir("/box")


def bind_read_only(path: str) -> None:
    """Show a host path read-only at the same place inside."""
    source, target = f"/old{path}", f"/new{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, None, MS_BIND | MS_REC, None)
    if path in DEVICES:
        remount(target, MS_NOSUID)
    elif not make_read_only(target):
        for below in mounts_from(target):
            remount(below, MS_NOSUID | MS_NODEV | MS_RDONLY)


def make_read_only(target: str) -> bool:
    """Make all mounts from ``target`` down read-only at once; return whether the kernel did."""
    flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    # set, clear, propagation, user namespace: four numbers of 64 bits
    attributes = struct.pack("4Q", flags, 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    place = (AT_FDCWD, os.fsencode(target), AT_RECURSIVE)
    return libc.syscall(SYS_MOUNT_SETATTR, *place, attributes, size) == 0


def mounts_from(target: str) -> list[str]:
    """Return the mount points from ``target`` down."""
    with open("/old/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    for character in " \t\n\\":
        points = [point.replace(f"\\{ord(character):03o}", character) for point in points]
    return [point for point in points if point == target or point.startswith(f"{target}/")]


def remount(target: str, flags: int) -> None:
    """Change the flags of one mount; those that restrict stay."""
    present = os.statvfs(target).f_flag
    kept = sum(flag for bit, flag in KEPT_FLAGS.items() if present & bit)
    mount("none", target, None, MS_REMOUNT | MS_BIND | kept | flags, None)


def run_first_process(python: str, arguments: list[str]) -> int:
    """Start the driver, bury orphans and return the driver's exit status, 128 + n for signal n."""
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    driver = os.fork()
    if driver == 0:
        os.setsid()
        os.execve(python, [python, "-I", "-S", "/driver.py", *arguments], BOX_ENVIRONMENT)
    _close_pipes(arguments)
    while True:
        process, status = os.wait()
        if process == driver:
            return exit_status(status)


def exit_status(status: int) -> int:
    """Return an exit status as a shell shows it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _close_pipes(arguments: list[str]) -> None:
    """Close the pipes here, so that only the processes of the program hold them."""
    for descriptor in (0, 1, 2, int(arguments[0])):
        os.close(descriptor)


def main() -> None:
    """Build the sandbox, wait for its first process and leave with its status."""
    first_cut = sys.argv.index("--")
    last_cut = sys.argv.index("--", first_cut + 1)
    box_mib, box_user = int(sys.argv[1]), int(sys.argv[2])
    python, driver, *binds = sys.argv[3:first_cut]
    masks, arguments = sys.argv[first_cut + 1 : last_cut], sys.argv[last_cut + 1 :]
    parent = os.getppid()
    os.umask(0o022)
    enter_user_namespace(box_user)
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    first = os.fork()
    if first == 0:
        die_with_parent()
        build_root(driver, binds, masks, box_mib=box_mib, box_user=box_user)
        os._exit(run_first_process(python, arguments))

    def stop(number: int, frame: FrameType | None) -> None:
        os.kill(first, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    _close_pipes(arguments)
    os._exit(exit_status(os.waitpid(first, 0)[1]))


main()
