"""The system calls that nothing in the sandbox may make, as a program for the kernel's seccomp filter (BPF).

Written by hand because it is one comparison per call number; the numbers are those of the kernel's tables
(arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h) and never change.

Covered: ptrace and reading other processes' memory; mounts; namespaces, and so new privileges in one; kernel modules,
BPF, performance counters, key rings, io_uring; any socket but Unix ones; the kernel's log; memory that belongs to no
process, so that nobody counts it (memfd, System V). Not covered: faults of the kernel in the calls that every program
needs. On other architectures there is no filter, and the level says so.
"""

import errno
import platform
import struct

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h

# name: (x86-64, arm64); None where that one has no such call.
_BARRED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "iopl": (172, None),
    "ioperm": (173, None),
}
_CLONE, _CLONE3, _SOCKET = (56, 220), 435, (41, 198)
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
_X32 = 0x40000000  # calls of the x32 ABI, under the same architecture
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program(machine: str | None = None) -> bytes | None:
    """The filter for a machine (this one, unless named); None where its call numbers are not known."""
    machine = machine or platform.machine()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None:
        return None
    column = 0 if machine == "x86_64" else 1
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)]
    steps.append(_step(_LOAD, _NUMBER))
    steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, refuse)]
    for numbers in _BARRED.values():
        if (number := numbers[column]) is not None:
            steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, refuse)]
    # clone3 hides its flags behind a pointer; without it libraries fall back to clone.
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, missing)]
    steps += [_step(_EQUAL, _CLONE[column], 0, 4), _step(_LOAD, _ARGUMENT), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1)]
    steps += [_step(_RETURN, refuse), _step(_RETURN, _ALLOW)]
    steps += [_step(_EQUAL, _SOCKET[column], 0, 3), _step(_LOAD, _ARGUMENT), _step(_EQUAL, _AF_UNIX, 1, 0)]
    steps += [_step(_RETURN, _ERRNO | errno.EACCES), _step(_RETURN, _ALLOW)]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
