"""The filter of system calls, run by a small machine of our own as the kernel would."""

import errno
import platform
import struct

import pytest

from mycoswarm.sandbox.filter import _BARRED, program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000


def judge(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the filter returns for a call."""
    wanted = program(machine)
    assert wanted is not None
    data = struct.pack("=IIQQ", number, architecture or ARCHITECTURES[machine], 0, argument)
    steps = list(struct.iter_unpack("=HBBI", wanted))
    assert len(steps) < 4096
    at, value = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_every_barred_call_is_refused_and_common_ones_are_let_through(machine: str, column: int) -> None:
    barred = {numbers[column] for numbers in _BARRED.values()} - {None}
    for number in barred:
        assert number is not None and judge(machine, number) == 0x50000 | errno.EPERM
    special = {(56, 220)[column], 435, (41, 198)[column]}
    for number in set(range(470)) - barred - special:
        assert judge(machine, number) == ALLOW


@pytest.mark.parametrize(("machine", "clone", "socket"), [("x86_64", 56, 41), ("aarch64", 220, 198)])
def test_processes_are_let_through_without_namespaces_and_sockets_of_this_machine_only(
    machine: str, clone: int, socket: int
) -> None:
    assert judge(machine, clone, 0x1200011) == ALLOW == judge(machine, clone, 0x3D0F00)
    for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert judge(machine, clone, flag | 17) == 0x50000 | errno.EPERM
    assert judge(machine, 435) == 0x50000 | errno.ENOSYS
    assert judge(machine, socket, 1) == ALLOW
    for family in (2, 10, 16, 17, 38, 40):
        assert judge(machine, socket, family) == 0x50000 | errno.EACCES


def test_calls_of_other_kinds_of_programs_are_no_way_around() -> None:
    assert judge("x86_64", 101, architecture=0x40000003) == KILL
    assert judge("x86_64", 0x40000000 | 521) == 0x50000 | errno.EPERM
    assert program("riscv64") is None
    assert (program() is None) == (platform.machine() not in ARCHITECTURES)
