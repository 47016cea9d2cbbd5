"""The filter of system calls, run by a small machine of our own as the kernel would."""

import errno
import platform
import struct

import pytest

from mycoswarm.sandbox.filter import _BARRED, _BARRED_IN_PLACE, program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, REFUSED = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM


def judge(machine: str, number: int, *arguments: int, architecture: int | None = None, in_place: bool = False) -> int:
    """What the filter returns for a call."""
    wanted = program(machine, in_place=in_place)
    assert wanted is not None
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *words)
    steps = list(struct.iter_unpack("=HBBI", wanted))
    assert len(steps) < 4096
    at, value = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            value &= operand
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


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_without_namespaces_more_is_refused_and_common_calls_are_let_through(machine: str, column: int) -> None:
    barred = {numbers[column] for numbers in (*_BARRED.values(), *_BARRED_IN_PLACE.values())} - {None}
    special = {(56, 220)[column], 435, (41, 198)[column], (53, 199)[column], (280, 88)[column]}
    special |= {(141, 140)[column], (251, 30)[column]}
    for number in set(range(470)) - special:
        assert judge(machine, number, in_place=True) == (REFUSED if number in barred else ALLOW), number
    assert judge(machine, (41, 198)[column], 1, in_place=True) == 0x50000 | errno.EACCES


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_without_namespaces_calls_are_let_through_for_oneself_alone(machine: str, column: int) -> None:
    def allowed(numbers: tuple[int, int], *arguments: int) -> bool:
        found = judge(machine, numbers[column], *arguments, in_place=True)
        assert found in (ALLOW, REFUSED)
        return found == ALLOW

    for numbers in ((302, 261), (203, 122), (144, 119), (142, 118), (314, 274)):
        assert allowed(numbers, 0, 7) and not allowed(numbers, 1) and not allowed(numbers, 0xFFFFFFFF)
    for numbers, process in (((141, 140), 0), ((251, 30), 1)):
        assert allowed(numbers, process, 0) and not allowed(numbers, process, 5) and not allowed(numbers, 2, 0)
    pair, times, control = (53, 199), (280, 88), (16, 29)
    assert allowed(pair, 1, 1) and allowed(pair, 1, 5) and allowed(pair, 1, 1 | 0x80800)
    assert not any(allowed(pair, 1, kind | flags) for kind in (0, 2, 3, 4) for flags in (0, 0x80800))
    assert allowed(times, 5, 0) and not allowed(times, 5, 1 << 32) and not allowed(times, 5, 8)
    assert allowed(control, 0, 0x5401) and allowed(control, 0, 0x40049409)
    assert not any(allowed(control, 0, request) for request in (0x40086602, 0x401C5820, 0x6685, 0xC0045877))


def test_calls_of_other_kinds_of_programs_are_no_way_around() -> None:
    assert judge("x86_64", 101, architecture=0x40000003) == KILL
    assert judge("x86_64", 0x40000000 | 521) == 0x50000 | errno.EPERM
    assert program("riscv64") is None
    assert (program() is None) == (platform.machine() not in ARCHITECTURES)
