"""Landlock: what a process and all that it starts may open, from now on and for good (Linux, landlock(7)).

Three system calls by their numbers: the only package for them, `landlock`, is a development release of early 2025.

Covered: opening, making, removing, renaming, running and truncating files; TCP; signals to processes outside and
abstract Unix sockets of theirs, where the kernel knows these (`scopes`). Not covered, whatever the kernel: that a file
is there, its size, owner and times; changing the mode, owner, times or attributes of a file of one's own; connecting to
a Unix socket that has a path; what is open already. Whoever uses this has to close those by other means.
"""

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress

from mycoswarm.base.errors import SetupError
from mycoswarm.sandbox.kernel import call

NEWEST = 7  # the kernel's newest version of this interface that is known here
WITH_TRUNCATE, WITH_TCP, WITH_SCOPES = 3, 4, 6  # the versions that brought these
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH

# linux/landlock.h: rights as bits, in the order in which versions brought them.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE_FOLDER_OR_FILE, _MAKE_SOCKET_OR_PIPE, _MAKE_LINK = 3 << 4, 3 << 7, 3 << 9, 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16}  # how many rights each version has
_TCP = 3  # bind and connect
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

LIST = _READ_DIR
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _REMOVE | _MAKE_FOLDER_OR_FILE | _MAKE_SOCKET_OR_PIPE | _MAKE_LINK | _REFER | _TRUNCATE
USE = _READ_FILE | _WRITE_FILE  # of a device
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


def version() -> int:
    """The version of Landlock in this kernel; 0 where it has none."""
    try:
        return call("landlock_create_ruleset", None, 0, _VERSION)
    except SetupError:
        return 0


def restrict(known: int, rights: Iterable[tuple[str, int]]) -> None:
    """Bind this process: all rights of version `known` are withdrawn but these, each for a path and what is below it.
    A path that is not there gives nothing. Needs `SET_NO_NEW_PRIVILEGES`.

    Raises:
        SetupError: the kernel refused it.
    """
    words = struct.pack("=Q", (1 << _KNOWN[known]) - 1)
    if known >= WITH_TCP:
        words += struct.pack("=Q", _TCP)
    if known >= WITH_SCOPES:
        words += struct.pack("=Q", _ABSTRACT_SOCKETS | _SIGNALS)
    _bind(words, rights)


def divide() -> None:
    """Bind this process once more: it reaches none of those it was bound with, though they reach it. Needs version 6.

    Raises:
        SetupError: the kernel refused it.
    """
    # A ruleset that says nothing about moving files to other folders forbids it.
    _bind(struct.pack("=QQQ", _REFER, 0, _SIGNALS), [("/", _REFER)])


def _bind(words: bytes, rights: Iterable[tuple[str, int]]) -> None:
    """`words`: struct landlock_ruleset_attr, which begins with the rights that are withdrawn."""
    (everything,) = struct.unpack_from("=Q", words)
    rules = call("landlock_create_ruleset", words, len(words), 0)
    try:
        for path, allowed in rights:
            with suppress(FileNotFoundError):
                _allow(rules, path, allowed & everything)
        call("landlock_restrict_self", rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, allowed: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _OF_FILES
        call("landlock_add_rule", rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
    finally:
        os.close(place)
