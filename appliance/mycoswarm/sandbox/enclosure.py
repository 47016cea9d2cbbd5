"""Namespaces of its own for a process, and in them a root folder that holds only what it is shown.

Covered: other processes are not seen, signalled or waited for; no network device but a loopback that is down; no
System V memory or message queues of others; no file, folder, mount or socket of this machine but those of the view, and
nothing to be written but the workspace and the scratch folder. What was mounted is not let go of again: whoever is in
here has no right to mount once it has given up its capabilities.
"""

import os
import struct
from contextlib import suppress
from pathlib import Path

from mycoswarm.sandbox.kernel import call
from mycoswarm.sandbox.view import SCRATCH, WORKSPACE, View

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
NOBODY = 65534
# linux/sched.h
_MOUNTS, _NAMES, _IPC, _USERS, _PROCESSES, _NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
# linux/mount.h, linux/fcntl.h
_NO_SUID, _NO_DEVICES, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 4096, 16384, 1 << 18
_READ_ONLY_ATTRIBUTE, _NO_SUID_ATTRIBUTE, _NO_DEVICES_ATTRIBUTE = 1, 2, 4
_DETACH = 2
_HERE, _AND_BELOW = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE
_SIZE = b"mode=0755,size=1m,nr_inodes=4096"  # of the root folder, which holds folders and links alone


def enclose(view: View, *, workspace: str, scratch: str, own_user: bool) -> None:
    """Leave this machine's namespaces; the process namespace is that of the next child. The workspace is then at
    /workspace, the scratch folder at /tmp, the process at /. `own_user`: we are not root, and become it for this.

    Raises:
        SetupError: the kernel refuses a part of it.
    """
    user, group = os.geteuid(), os.getegid()
    call("unshare", _MOUNTS | _NAMES | _IPC | _PROCESSES | _NETWORK | (_USERS if own_user else 0))
    if own_user:
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1", "ascii")
    call("sethostname", b"sandbox", len(b"sandbox"))
    call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    # The scratch folder is where the new root is mounted: a folder that is surely there, and ours. It is then bound
    # without what is mounted on it, which is that root.
    with _Held(workspace) as held_workspace, _Held(scratch) as held_scratch:
        _mount_empty(scratch, _SIZE)
        _furnish(scratch, view, held_workspace, held_scratch)
    _seal(scratch)
    os.chdir(scratch)
    call("pivot_root", b".", b".")  # the old root is then on top of the new one
    call("umount2", b".", _DETACH)
    os.chdir("/")


def _furnish(base: str, view: View, workspace: str, scratch: str) -> None:
    _bind(scratch, base + SCRATCH, _BIND)  # first, as we may be installed below /tmp
    for parent in view.parents:
        Path(base + parent).mkdir(exist_ok=True)
    for path in (*view.shown, *DEVICES):
        if os.path.exists(path):  # noqa: PTH110  # these are words, and stay so
            _bind(path, base + path, _BIND | _RECURSIVE)
    for leads_to, path in view.links:
        Path(base + path).symlink_to(leads_to)
    for path in view.masked:
        _mount_empty(base + path, b"mode=0555,size=4k")
    _bind(workspace, base + WORKSPACE, _BIND)


def _seal(base: str) -> None:
    """Make all of it read-only but the two folders."""
    _set(base, _READ_ONLY_ATTRIBUTE | _NO_SUID_ATTRIBUTE, 0, _AND_BELOW)
    for path in (SCRATCH, WORKSPACE):
        _set(base + path, _NO_DEVICES_ATTRIBUTE, _READ_ONLY_ATTRIBUTE, 0)


def _set(path: str, given: int, taken: int, flags: int) -> None:
    attributes = struct.pack("=QQQQ", given, taken, 0, 0)  # struct mount_attr
    call("mount_setattr", _HERE, os.fsencode(path), flags, attributes, len(attributes))


def _bind(source: str, target: str, how: int) -> None:
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            Path(target).touch(exist_ok=False)
    call("mount", os.fsencode(source), os.fsencode(target), None, how, None)


def _mount_empty(path: str, options: bytes) -> None:
    call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", _NO_SUID | _NO_DEVICES, options)


class _Held:
    """A folder that is kept hold of while something else is mounted over it; gives a path to it."""

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._number}"

    def __exit__(self, *raised: object) -> None:
        os.close(self._number)
