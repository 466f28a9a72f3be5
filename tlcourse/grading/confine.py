"""What a process gives up before it runs a stranger's code. Linux, the standard library, nothing else.

`isolate` gives it process, mount and IPC namespaces of its own, so that it sees no other process, and a private /tmp;
`restrict` sets limits, drops every privilege and refuses the calls of the kernel that an answer never needs. Neither
can be undone from inside. They do not protect against a hole in the kernel itself, nor hide how long another process
takes.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys

__all__ = ["adopt_orphans", "build_root", "isolate", "restrict", "stay_as_init"]

NEW_NAMESPACE = {"mount": 0x00020000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000}
EVERY_NAMESPACE = 0x7E020080  # mount, cgroup, uts, ipc, user, pid, net, time
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
LARGEST_CAPABILITY = 63
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, DROP_FROM_BOUNDING_SET, CLEAR_AMBIENT = 38, 22, 24, 47
SET_CHILD_SUBREAPER, SET_PARENT_DEATH_SIGNAL = 36, 1

# Calls that answers never need, and what they would give: another process's memory, memory that no limit counts, new
# namespaces, mounts, keys, the kernel's larger surfaces. Numbers of x86_64 and of aarch64.
REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "personality": (135, 92),
    "sched_setaffinity": (203, 122),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, the kernel's name of the machine
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
UNIX_SOCKETS = 1
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of the kernel's filter


def isolate(*, scratch: int) -> bool:
    """Continue in a child that is alone in new namespaces; the caller's process waits for it and exits with its status.

    Parameters
    ----------
    scratch
        Bytes of the private /tmp.

    Raises
    ------
    OSError
        If this machine, or the jail around, does not allow it.
    """
    libc = _libc()
    flags = NEW_NAMESPACE["mount"] | NEW_NAMESPACE["ipc"] | NEW_NAMESPACE["pid"]
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(flags):
        _check(libc.unshare(NEW_NAMESPACE["user"]), "a user namespace")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        _check(libc.unshare(flags), "namespaces")
    child = os.fork()
    if child:
        _exit_like(child)
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("proc", "/proc", "proc", NO_SUID | NO_DEVICES | NO_EXEC)
    _mount("tmpfs", "/tmp", "tmpfs", NO_SUID | NO_DEVICES, f"size={scratch},mode=1777")
    return True


def stay_as_init() -> None:
    """Go on in a child; this process, the first of its namespace, takes in orphans, and all end when the child does."""
    # Of the first of a namespace, its parent's death: all in the namespace end with it.
    _check(_libc().prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "ending with the starter")
    child = os.fork()
    if child:
        os.closerange(0, 256)
        _exit_like(child)


def adopt_orphans() -> None:
    """Become the parent of what a descendant leaves behind, where no namespace ends it."""
    _check(_libc().prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0), "adopting orphans")


def restrict(limits: dict, *, uid: int | None) -> None:
    """Set limits, drop privileges for good, and refuse what an answer never needs.

    Parameters
    ----------
    limits
        ``memory`` (bytes of private memory, a process), ``processes``, ``cpu_seconds`` (a process), ``file`` (bytes),
        ``open_files``.
    uid
        Whom to become, where this process is root outside of any user namespace: such a one is under no limit of
        processes.
    """
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    for name, value in (
        (resource.RLIMIT_DATA, limits["memory"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    libc = _libc()
    for capability in range(LARGEST_CAPABILITY):
        libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)  # refused where there is none, which is as well
    libc.prctl(CLEAR_AMBIENT, 4, 0, 0, 0)
    header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _check(libc.capset(header, nothing), "dropping capabilities")
    _check(libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no new privileges")
    _refuse_calls(libc)


def build_root(view: dict, arguments: list[str]) -> None:
    """Make a root folder that holds what ``view`` names and nothing else, enter it, and become the program.

    For the jail of plain namespaces; the caller is in new ones, and root there.

    Parameters
    ----------
    view
        ``root``: an empty folder; ``binds``: (from, to) pairs, read-only; ``links``: (to, at); ``hidden``: folders that
        become empty; ``scratch``: bytes of /tmp; ``environment``.
    """
    root = view["root"]
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "size=8m,mode=755")
    for source, target in view["binds"]:
        _bind(source, root + target)
    for source, at in view["links"]:
        os.makedirs(os.path.dirname(root + at), exist_ok=True)
        os.symlink(source, root + at)
    for path in view["hidden"]:
        _mount("tmpfs", root + path, "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES, "size=4k,mode=755")
    os.makedirs(root + "/dev/shm", exist_ok=True)
    for name in ("null", "zero", "full", "random", "urandom"):
        _bind(f"/dev/{name}", f"{root}/dev/{name}", device=True)
    for path, size in (("/tmp", view["scratch"]), ("/dev/shm", view["scratch"])):
        os.makedirs(root + path, exist_ok=True)
        _mount("tmpfs", root + path, "tmpfs", NO_SUID | NO_DEVICES, f"size={size},mode=1777")
    os.makedirs(root + "/proc", exist_ok=True)
    _mount("proc", root + "/proc", "proc", NO_SUID | NO_DEVICES | NO_EXEC)
    os.chdir(root)
    _check(_libc().syscall(_number((155, 41)), b".", b"."), "changing the root")
    _check(_libc().umount2(b".", DETACH), "leaving the old root")
    os.chdir("/")
    _mount(None, "/", None, REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES)
    os.execve(arguments[0], arguments, view["environment"])


def _bind(source: str, target: str, *, device: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a", encoding="utf-8"):
            pass
    _mount(source, target, None, BIND | RECURSIVE)
    if not device:
        # What the file system around forbids stays forbidden: a namespace may not take a flag away.
        held = os.statvfs(target).f_flag & (NO_EXEC | 1024 | 2048 | 4096)
        flags = {NO_EXEC: NO_EXEC, 1024: 1 << 10, 2048: 1 << 11, 4096: 1 << 21}
        kept = sum(value for bit, value in flags.items() if held & bit)
        _mount(None, target, None, BIND | REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES | kept)


def _refuse_calls(libc: ctypes.CDLL) -> None:
    """A filter in the kernel's own small language; on other machines than these there is none."""
    column, machine = MACHINES.get(platform.machine(), (None, None))
    if column is None or sys.byteorder != "little":
        return
    denied = FAIL | errno.EPERM
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, denied)]  # x86_64's second set of numbers
    for numbers in REFUSED.values():
        program += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, denied)]
    # The C library falls back on clone, whose flags a filter can read.
    program += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, FAIL | errno.ENOSYS)]
    program += [(EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, EVERY_NAMESPACE & ~0xFF)]
    program += [(RETURN, 0, 0, denied), (RETURN, 0, 0, ALLOW)]
    # Sockets to the machine around (vsock) and to the kernel's own services belong to no network namespace.
    program += [(EQUAL, 0, 3, SOCKET[column]), (LOAD, 0, 0, 16), (EQUAL, 1, 0, UNIX_SOCKETS)]
    program += [(RETURN, 0, 0, FAIL | errno.EACCES), (RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(buffer))
    _check(libc.prctl(SET_SECCOMP, 2, ctypes.c_char_p(filter_program), 0, 0), "refusing calls")


def _number(numbers: tuple[int, int]) -> int:
    column, _ = MACHINES.get(platform.machine(), (None, None))
    if column is None:
        raise OSError(errno.ENOSYS, f"the jail of plain namespaces does not know {platform.machine()}")
    return numbers[column]


def _exit_like(child: int) -> None:
    """Wait for a child, take in any others, and exit as it did: its status, or 128 and the signal."""
    while True:
        with contextlib.suppress(InterruptedError):
            found, status = os.wait()
            if found == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    source, target_bytes, kind, data = (
        None if text is None else os.fsencode(text) for text in (source, target, kind, data)
    )
    _check(_libc().mount(source, target_bytes, kind, ctypes.c_ulong(flags), data), f"mounting {target}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    import json

    build_root(json.loads(sys.argv[1]), sys.argv[2:])
