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
    "open_tree_attr": (467, 467),
}
_BARRED_IN_PLACE: dict[str, tuple[int | None, int | None]] = {
    "connect": (42, 203),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
# Calls that name a process by their first word: 0 is who calls.
_OWN_ONLY: dict[str, tuple[int, int]] = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
# These by their first two: a kind, of which this one is "process", and then 0 is who calls.
_OWN_KIND_ONLY: dict[str, tuple[tuple[int, int], int]] = {"setpriority": ((141, 140), 0), "ioprio_set": ((251, 30), 1)}
_CLONE, _CLONE3, _SOCKET, _PAIR = (56, 220), 435, (41, 198), (53, 199)
_IOCTL, _UTIMENSAT = (16, 29), (280, 88)
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
_X32 = 0x40000000  # calls of the x32 ABI, under the same architecture
_AF_UNIX = 1
_STREAM, _SEQUENCED, _KINDS = 1, 5, 0xF  # SOCK_STREAM, SOCK_SEQPACKET, what is no flag: pairs that stay pairs
_OF_FILES, _OF_FILE_SYSTEMS, _GROUP = ord("f") << 8, ord("X") << 8, 0xFF00  # ioctls for attributes (linux/fs.h)

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # linux/bpf_common.h
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_NUMBER, _ARCHITECTURE, _ARGUMENT, _WORD = 0, 4, 16, 8  # offsets in struct seccomp_data; arguments have 64 bits
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program(machine: str | None = None, *, in_place: bool = False) -> bytes | None:
    """The filter for a machine (this one, unless named); None where its call numbers are not known."""
    machine = machine or platform.machine()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None:
        return None
    column = 0 if machine == "x86_64" else 1
    refuse, missing = _step(_RETURN, _ERRNO | errno.EPERM), _ERRNO | errno.ENOSYS
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)]
    steps.append(_step(_LOAD, _NUMBER))
    steps += [_step(_AT_LEAST, _X32, 0, 1), refuse]
    for numbers in [*_BARRED.values(), *(_BARRED_IN_PLACE.values() if in_place else ())]:
        if (number := numbers[column]) is not None:
            steps += [_step(_EQUAL, number, 0, 1), refuse]
    # clone3 hides its flags behind a pointer; without it libraries fall back to clone.
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, missing)]
    steps += _on(_CLONE[column], [_load(0), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse])
    if in_place:
        steps += _in_place(column, refuse)
    else:
        no_network = _step(_RETURN, _ERRNO | errno.EACCES)
        steps += _on(_SOCKET[column], [_load(0), _step(_EQUAL, _AF_UNIX, 1, 0), no_network])
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _in_place(column: int, refuse: bytes) -> list[bytes]:
    """What only the filter of a sandbox without namespaces looks at."""
    steps = [_step(_EQUAL, _SOCKET[column], 0, 1), _step(_RETURN, _ERRNO | errno.EACCES)]
    kinds = [_load(1), _step(_AND, _KINDS), _step(_EQUAL, _STREAM, 2, 0), _step(_EQUAL, _SEQUENCED, 1, 0), refuse]
    steps += _on(_PAIR[column], kinds)
    for numbers in _OWN_ONLY.values():
        steps += _on(numbers[column], [_load(0), _step(_EQUAL, 0, 1, 0), refuse])
    for numbers, process in _OWN_KIND_ONLY.values():
        whose = [_load(0), _step(_EQUAL, process, 1, 0), refuse, _load(1), _step(_EQUAL, 0, 1, 0), refuse]
        steps += _on(numbers[column], whose)
    # Without a path it is about an open file, of which `touch` has one; a path is a pointer of two halves.
    no_path = [_load(1), _step(_EQUAL, 0, 1, 0), refuse, _load(1, 4), _step(_EQUAL, 0, 1, 0), refuse]
    steps += _on(_UTIMENSAT[column], no_path)
    group = [_load(1), _step(_AND, _GROUP), _step(_EQUAL, _OF_FILES, 1, 0), _step(_EQUAL, _OF_FILE_SYSTEMS, 0, 1)]
    return [*steps, *_on(_IOCTL[column], [*group, refuse])]


def _on(number: int, steps: list[bytes]) -> list[bytes]:
    """Steps for one call, which is let through where they do not refuse it."""
    return [_step(_EQUAL, number, 0, len(steps) + 1), *steps, _step(_RETURN, _ALLOW)]


def _load(argument: int, half: int = 0) -> bytes:
    return _step(_LOAD, _ARGUMENT + argument * _WORD + half)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
