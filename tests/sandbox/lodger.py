"""A process of an ordinary user in which tests run what a daemon that is not root would run.

Tests run as root and this Python may lie where root alone finds its way; so the process first gets mounts of its own in
which the way there is open, and only then becomes that user.
"""

import asyncio
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mycoswarm.sandbox.jail import Errand, Jail, empty
from mycoswarm.sandbox.kernel import call
from mycoswarm.sandbox.runner import Bounds, Ended
from mycoswarm.sandbox.view import python_roots

USER = 1_850_000_000 + os.getpid()  # nobody's, and another one in each run of the tests
_MOUNTS, _BIND, _PRIVATE_AND_BELOW = 0x20000, 0x1000, 0x44000


@contextmanager
def lodging() -> Iterator[ProcessPoolExecutor]:
    """One process of that user, for as long as it is needed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _move_in) as pool:
        yield pool


@contextmanager
def room_of_its_own() -> Iterator[Path]:
    """A folder that belongs to that user."""
    folder = Path(tempfile.mkdtemp(prefix="lodger-", dir="/tmp"))
    try:
        os.chown(folder, USER, USER)
        yield folder
    finally:
        empty(folder)


def serve(jail: Jail, errands: list[Errand], bounds: Bounds | None = None) -> list[Ended]:
    """Run some calls at once."""

    async def all_of_them() -> list[Ended]:
        return list(await asyncio.gather(*(jail.run(errand, bounds) for errand in errands)))

    return asyncio.run(all_of_them())


def _move_in() -> None:
    call("unshare", _MOUNTS)
    call("mount", None, b"/", None, _PRIVATE_AND_BELOW, None)
    for closed in {gate for root in python_roots() if (gate := _gate(root)) is not None}:
        inside = [root for root in python_roots() if root.is_relative_to(closed)]
        held = [os.open(root, os.O_PATH) for root in inside]
        call("mount", b"tmpfs", os.fsencode(closed), b"tmpfs", 0, b"mode=0755")
        for number, root in zip(held, inside, strict=True):
            root.mkdir(parents=True)
            call("mount", f"/proc/self/fd/{number}".encode(), os.fsencode(root), None, _BIND, None)
            os.close(number)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


def _gate(root: Path) -> Path | None:
    """The outermost folder on the way that others may not pass."""
    return next((path for path in reversed(root.parents) if not path.stat().st_mode & 1), None)
