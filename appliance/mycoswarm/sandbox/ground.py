"""Finds out how well this machine can shut a tool in: tried out, not assumed."""

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from mycoswarm.base.program import PACKED
from mycoswarm.sandbox.cage import WORKSPACE, caged
from mycoswarm.sandbox.filter import program
from mycoswarm.sandbox.level import SandboxLevel

TRY_S = 10.0

# Said by what was shut in and by nothing else: a program of that name that only starts others is no sandbox.
_HELD = b"held"
_LOOK = f"test -d {WORKSPACE} && test ! -e /proc/1 && echo {_HELD.decode()}"

_LIMITS = (
    "CPU seconds and addresses of each process, file size, output, time, memory and disk of all together",
    "a cleared environment",
)
_WALLS = (
    "no network, not even this machine's loopback",
    "a read-only system; one writable workspace and a /tmp of its own",
    "nothing else of this machine's files: no home, no data folder, no /proc, no /etc but the loader's",
    "processes outside are neither seen nor reached; all inside end together",
    "no new privileges: setuid programs gain nothing, and no capabilities are left",
)
_ALWAYS_LACKING = (
    "faults of the Linux kernel itself",
    "what /usr and the Python environment hold can be read",
    "the load on processors and disk while a tool runs, within its limits",
)


async def find_level(given: str | None = None) -> SandboxLevel:
    """Try what there is, best first. `given`: the path of bubblewrap, where it is not the one on PATH."""
    if sys.platform != "linux":
        return _bare(f"there is no sandbox for {platform.system()} yet")
    bwrap = given or shutil.which("bwrap")
    if bwrap is None:
        return _bare("bubblewrap is not installed: `apt install bubblewrap`")
    if PACKED is not None:
        await asyncio.to_thread(_open, PACKED.parent)
    tries = (False, True) if os.geteuid() == 0 else (True,)
    why = ""
    for own_user in tries:
        why = await _fault(bwrap, own_user)
        if not why:
            return _walled(bwrap, own_user)
    return _bare(f"bubblewrap does not work here: {why}")


def _open(folder: Path) -> None:
    """Let others read the unpacked program, as they may any program: inside, a tool is somebody else.

    It is unpacked for one user alone. The folders above it stay as they are.
    """
    for each in (folder, *folder.rglob("*")):
        if not each.is_symlink():
            each.chmod(each.stat().st_mode | (0o555 if each.is_dir() else 0o444))


def _walled(bwrap: str, own_user: bool) -> SandboxLevel:
    covers, lacks = [*_WALLS, *_LIMITS], [*_ALWAYS_LACKING]
    level = SandboxLevel("bubblewrap", bwrap, own_user, (), ())
    (covers if level.counts_processes else lacks).append("the number of processes")
    if program() is not None:
        covers.append("system calls for tracing, mounts, namespaces, modules, key rings and sockets are refused")
    else:
        lacks.append(f"a filter of system calls: none is written for {platform.machine()}")
    return SandboxLevel("bubblewrap", bwrap, own_user, tuple(covers), tuple(lacks))


def _bare(why: str) -> SandboxLevel:
    lacks = ("the network", "files of this user outside the workspace", "other processes of this user")
    return SandboxLevel("limits", None, False, _LIMITS, (*lacks, "the number of processes"), why)


async def _fault(bwrap: str, own_user: bool) -> str:
    """Why bubblewrap cannot do here what we ask of it; empty where it can."""
    with tempfile.TemporaryDirectory(prefix="mycoswarm-") as folder:
        place = Path(folder)
        level = SandboxLevel("bubblewrap", bwrap, own_user, (), ())
        words = caged(level, workspace=place, scratch=place, hidden=(), seccomp_fd=None)
        return await _failure([*words[: words.index("--")], "--", "/bin/sh", "-c", _LOOK])


async def _failure(words: list[str]) -> str:
    try:
        trial = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as exc:
        return str(exc)
    try:
        async with asyncio.timeout(TRY_S):
            shown, said = await trial.communicate()
    except TimeoutError:
        trial.kill()
        await trial.wait()
        return f"it did not end within {TRY_S:g} s"
    if trial.returncode == 0 and shown.strip() == _HELD:
        return ""
    return said.decode("utf-8", "replace").strip()[:200] or "it failed"
