"""Finds out how well this machine can shut a tool in: tried out, not assumed."""

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mycoswarm.base.errors import SetupError
from mycoswarm.base.program import PACKED, module_words
from mycoswarm.sandbox.cage import caged, locked
from mycoswarm.sandbox.enclosure import NOBODY
from mycoswarm.sandbox.filter import program
from mycoswarm.sandbox.landlock import NEWEST, WITH_SCOPES, WITH_TCP, WITH_TRUNCATE, version
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.prover import HELD
from mycoswarm.sandbox.view import SCRATCH, WORKSPACE, environment

TRY_S = 10.0

# Said by what was shut in and by nothing else: a program of that name that only starts others is no sandbox.
_HELD = HELD.encode()
_LOOK = f"test -d {WORKSPACE} && test ! -e /proc/1 && echo {HELD}"
_PROVER = module_words("mycoswarm.sandbox.prover")

_LIMITS = (
    "CPU seconds and addresses of each process, file size, output, time, memory and disk of all together",
    "a cleared environment",
)
_NETWORK = "no network, not even this machine's loopback"
_NO_GAIN = "no new privileges: setuid programs gain nothing, and no capabilities are left"
_CALLS = "system calls for tracing, mounts, namespaces, modules, key rings and sockets are refused"
_COUNTED = "the number of processes"
_WALLS = (
    _NETWORK,
    "a read-only system; one writable workspace and a /tmp of its own",
    "nothing else of this machine's files: no home, no data folder, no /proc, no /etc but the loader's",
    "processes outside are neither seen nor reached; all inside end together",
    _NO_GAIN,
)
_WALLS_IN_PLACE = (
    _NETWORK,
    "no socket at all but pairs: services of this machine are out of reach",
    "a read-only system; one writable workspace and a folder for temporary files",
    "no other file can be opened, changed or made: no home, no data folder, no /proc, no /etc but the loader's",
    "processes outside are not reached; all inside end together",
    _NO_GAIN,
    _CALLS,
)
_ALWAYS_LACKING = (
    "faults of the Linux kernel itself",
    "what /usr and the Python environment hold can be read",
    "the load on processors and disk while a tool runs, within its limits",
)
_LACKING_IN_PLACE = (
    "that a file or a process outside is there, its size, owner and times can be seen, its content not",
    "the number of processes is limited together with all others of this user, and so only roughly",
    "tools cannot change the mode of a file, and so not make one a program",
)


async def find_level(given: str | None = None, hidden: Iterable[Path] = ()) -> SandboxLevel:
    """Try what there is, best first. `given`: the path of bubblewrap, where it is not the one on PATH. `hidden`: the
    folders that must stay out."""
    if sys.platform != "linux":
        return _bare(f"there is no sandbox for {platform.system()} yet")
    bwrap = given or shutil.which("bwrap")
    why = "bubblewrap is not installed: `apt install bubblewrap`"
    if PACKED is not None:
        await asyncio.to_thread(_open, PACKED.parent)
    if bwrap is not None:
        for own_user in _users():
            level = SandboxLevel("bubblewrap", bwrap, own_user, (), ())
            if not (fault := await _fault(level, ())):
                return _walled(level)
            why = f"bubblewrap does not work here: {fault}"
    return await find_landlock(why, hidden)


async def find_landlock(why: str, hidden: Iterable[Path] = (), *, in_place: bool = False) -> SandboxLevel:
    """Try what there is without bubblewrap. `why`: why not with it. `in_place`: without namespaces at once."""
    known = min(version(), NEWEST)
    if known < WITH_TRUNCATE:
        had = f"only knows version {known} of Landlock, not {WITH_TRUNCATE}" if known else "has no Landlock"
        return _bare(f"{why}; this kernel {had}")
    if program() is None:
        return _bare(f"{why}; no filter of system calls is written for {platform.machine()}")
    fault = "there is no user to become"
    for own_user in () if in_place else _users():
        level = SandboxLevel("landlock", None, own_user, (), (), known=known)
        if not (fault := await _fault(level, hidden)):
            return _walled(level, why)
    if os.geteuid() == 0:
        return _bare(f"{why}; namespaces do not work here: {fault}; without them the daemon must not be root")
    if known < WITH_SCOPES:
        return _bare(f"{why}; namespaces do not work here: {fault}; without them Landlock has to be of version 6")
    level = SandboxLevel("landlock", None, False, (), (), known=known, in_place=True)
    if fault := await _fault(level, hidden):
        return _bare(f"{why}; Landlock does not work here: {fault}")
    return _walled(level, why)


def _open(folder: Path) -> None:
    """Let others read the unpacked program, as they may any program: inside, a tool is somebody else.

    It is unpacked for one user alone. The folders above it stay as they are.
    """
    for each in (folder, *folder.rglob("*")):
        if not each.is_symlink():
            each.chmod(each.stat().st_mode | (0o555 if each.is_dir() else 0o444))


def _users() -> tuple[bool, ...]:
    """Whether to try with a user namespace."""
    return (False, True) if os.geteuid() == 0 else (True,)


def _walled(level: SandboxLevel, why: str = "") -> SandboxLevel:
    covers = [*(_WALLS_IN_PLACE if level.in_place else _WALLS), *_LIMITS]
    lacks = [*_ALWAYS_LACKING, *(_LACKING_IN_PLACE if level.in_place else ())]
    if not level.in_place:
        (covers if level.counts_processes else lacks).append(_COUNTED)
        if program() is not None:
            covers.append(_CALLS)
        else:
            lacks.append(f"a filter of system calls: none is written for {platform.machine()}")
    if level.name == "landlock":
        spaces = "mounts, processes, network, IPC, host name" + (", users" if level.own_user else "")
        had = "no namespaces" if level.in_place else f"namespaces for {spaces}"
        covers.insert(0, f"Landlock of version {level.known}, a filter of system calls, {had}")
        if level.known < WITH_TCP:
            lacks.append("Landlock's own refusal of TCP (version 4): the filter of system calls alone keeps it closed")
    return SandboxLevel(
        level.name,
        level.bwrap,
        level.own_user,
        tuple(covers),
        tuple(lacks),
        why=why,
        known=level.known,
        in_place=level.in_place,
    )


def _bare(why: str) -> SandboxLevel:
    lacks = ("the network", "files of this user outside the workspace", "other processes of this user", _COUNTED)
    return SandboxLevel("limits", None, False, _LIMITS, lacks, why)


async def _fault(level: SandboxLevel, hidden: Iterable[Path]) -> str:
    """Why a level cannot do here what we ask of it; empty where it can."""
    with tempfile.TemporaryDirectory(prefix="mycoswarm-") as folder:
        workspace, scratch, outside = (Path(folder) / name for name in ("workspace", "scratch", "outside"))
        for each in (workspace, scratch):
            each.mkdir()
            if os.geteuid() == 0 and not level.own_user:
                os.chown(each, NOBODY, NOBODY)
        outside.write_text("secret", "ascii")
        if level.bwrap is not None:
            words = caged(level, workspace=workspace, scratch=scratch, hidden=(), seccomp_fd=None)
            return await _failure([*words[: words.index("--")], "--", "/bin/sh", "-c", _LOOK], {})
        inside, temporary = (WORKSPACE, SCRATCH) if level.has_own_root else (str(workspace), str(scratch))
        tries = (*_PROVER, str(outside), str(os.getpid()), inside)
        try:
            words = locked(level, workspace=workspace, scratch=scratch, hidden=hidden, user_id=None, words=tries)
        except SetupError as exc:
            return exc.message
        return await _failure(words, environment(inside, temporary))


async def _failure(words: list[str], variables: dict[str, str]) -> str:
    try:
        trial = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=variables or None,
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
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it failed"
