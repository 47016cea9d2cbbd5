"""The calls of the Linux kernel that Python has no function for, each refused with a SetupError."""

import ctypes
import os
import platform
import struct

from mycoswarm.base.errors import SetupError

# linux/prctl.h
SET_PARENT_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVILEGES = 1, 4, 22, 36, 38
_FILTER = 2  # linux/seccomp.h: SECCOMP_MODE_FILTER
_CAPABILITIES = struct.pack("Ii", 0x20080522, 0)  # linux/capability.h: version 3, this process
_STEP_BYTES = 8  # struct sock_filter
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # the rest have the same number everywhere, or a name in the C library
_NUMBERS = {
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}

Word = int | bytes | ctypes.Array[ctypes.c_char] | None


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("steps", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def call(name: str, *words: Word) -> int:
    """Make one call; integers go as machine words.

    Raises:
        SetupError: the kernel refused it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    number = _PIVOT_ROOT.get(platform.machine()) if name == "pivot_root" else _NUMBERS.get(name)
    found: int = getattr(libc, name)(*given) if number is None else libc.syscall(ctypes.c_long(number), *given)
    if found < 0:
        raise SetupError(f"the kernel refuses {name}: {os.strerror(ctypes.get_errno())}", code="sandbox_failed")
    return found


def control(what: int, value: int) -> None:
    """prctl(2) for this process.

    Raises:
        SetupError: the kernel refused it.
    """
    call("prctl", what, value, 0, 0, 0)


def become(user_id: int) -> None:
    """Give up root for this user for good; on any system."""
    os.setgroups([])
    os.setresgid(user_id, user_id, user_id)
    os.setresuid(user_id, user_id, user_id)


def give_up_capabilities() -> None:
    """Also the inheritable ones, which a change of user leaves.

    Raises:
        SetupError: the kernel refused it.
    """
    call("capset", _CAPABILITIES, bytes(24))


def filter_calls(program: bytes) -> None:
    """Put a filter of system calls over this process and all that it starts; needs `SET_NO_NEW_PRIVILEGES`.

    Raises:
        SetupError: the kernel has no such filters.
    """
    whole = _Program(len(program) // _STEP_BYTES, program)
    call("prctl", SET_SECCOMP, _FILTER, ctypes.addressof(whole), 0, 0)
