"""Runs one call of a tool in its sandbox and ends all of it: the daemon's side of runner.py.

Memory of all processes together, and the disk that they take, are looked at some times a second: what grows faster is
stopped a little late, by what each process may have and by the kernel, which takes a tool before anything else.
"""

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mycoswarm.base.errors import SetupError, StorageError
from mycoswarm.base.program import module_words
from mycoswarm.sandbox.cage import RUNNER, WORKSPACE, caged, environment
from mycoswarm.sandbox.filter import program
from mycoswarm.sandbox.kin import descendants, end
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Bounds, Ended, Task
from mycoswarm.sandbox.toolset import TOOLS

MAX_ANSWER_BYTES = 2 << 20  # of the runner's line: a file of 200,000 characters, each escaped
MAX_TOGETHER_BYTES = 1 << 30  # memory of all processes of one call
MAX_FOLDER_BYTES = 256 << 20  # of a workspace, and of a scratch folder
MAX_ENTRIES = 20_000  # files and folders in either
MIN_FREE_BYTES = 256 << 20  # of the disk, and of memory where that is less than a sixteenth of it: less stops a tool
REMOVE_S = 30.0
WATCH_S = 0.1
DISK_S = 0.5
GRACE_S = 3.0  # that the runner has to say what the program's own time-out made of it
STOP_S = 5.0
WORDS = 2000  # bytes of a failed start that are kept
_WORST = "1000"  # oom_score_adj: of all processes of the machine the kernel takes these first


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One call for the jail. `unconfined`: the owner's rule lets it run where there is no sandbox. `user_id`: whose the
    workspace is, where we are root."""

    tool: str
    arguments: str
    workspace: Path
    within_s: float
    unconfined: bool = False
    user_id: int | None = None


class Jail:
    """`hidden` are folders that stay out of every sandbox. `folder` is where scratch folders are made."""

    def __init__(self, level: SandboxLevel, *, folder: Path, hidden: Iterable[Path] = ()) -> None:
        self.level = level
        self._folder, self._hidden = folder, tuple(hidden)

    async def run(self, errand: Errand, bounds: Bounds | None = None) -> Ended:
        """Run one call to its end, whatever it tries.

        Raises:
            SetupError: this machine has no sandbox for it, or it could not be started.
            StorageError: there is no room for it.
        """
        if not self.level.is_sandbox and TOOLS[errand.tool].where == "sandbox" and not errand.unconfined:
            raise SetupError(
                f"this node has no sandbox, and {errand.tool} needs one: {self.level.why}",
                hint='Install bubblewrap there, or let the rule say sandbox = "optional" (docs/tools.md).',
                code="no_sandbox",
            )
        if fault := await asyncio.to_thread(_disk_fault, errand.workspace):
            raise StorageError(f"the workspace is full: {fault}", hint="A fresh run has a fresh one.")
        bounds = bounds or Bounds(cpu_s=int(errand.within_s) + 1)
        if not self.level.counts_processes:
            bounds = msgspec.structs.replace(bounds, processes=None)
        async with self._scratch(errand.user_id) as scratch:
            return await self._run(errand, bounds, scratch)

    @contextlib.asynccontextmanager
    async def _scratch(self, user_id: int | None) -> AsyncIterator[Path]:
        def make() -> Path:
            path = Path(tempfile.mkdtemp(prefix="scratch-", dir=self._folder))
            if user_id is not None:
                os.chown(path, user_id, user_id)
            path.chmod(0o711)  # bwrap passes through it, as root without capabilities; its parent is closed to others
            return path

        path = await asyncio.to_thread(make)
        try:
            yield path
        finally:
            await asyncio.to_thread(empty, path)

    async def _run(self, errand: Errand, bounds: Bounds, scratch: Path) -> Ended:
        inside = WORKSPACE if self.level.is_sandbox else "."  # it begins there: on the way may be folders of root's
        # Inside a user namespace there is no other user to become; elsewhere root becomes nobody.
        user_id = None if self.level.own_user else errand.user_id
        task = Task(errand.tool, errand.arguments, inside, bounds, user_id)
        async with self._process(errand, scratch) as process:
            folders = (errand.workspace, scratch)
            reading = asyncio.create_task(_speak(process, msgspec.json.encode(task)))
            watching = asyncio.create_task(_watch(process.pid, folders))
            try:
                async with asyncio.timeout(errand.within_s + GRACE_S):
                    await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                return Ended(f"[stopped: it took longer than {errand.within_s:g} s]", False, "timeout")
            finally:
                watching.cancel()
                reading.cancel()
                await asyncio.gather(reading, watching, return_exceptions=True)
            if not reading.cancelled():
                said, complaint = reading.result()
                return _ended(said, complaint)
            return Ended(f"[stopped: {watching.result()}]", False, "too_much")

    @contextlib.asynccontextmanager
    async def _process(self, errand: Errand, scratch: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        """The sandbox's outermost process; when it ends, the kernel ends all that is inside."""
        words, number = [*module_words(RUNNER)], None
        if self.level.is_sandbox:
            number = _filter_fd()
            words = caged(
                self.level, workspace=errand.workspace, scratch=scratch, hidden=self._hidden, seccomp_fd=number
            )
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(str(errand.workspace), str(scratch)),
                pass_fds=() if number is None else (number,),
                cwd=None if self.level.is_sandbox else errand.workspace,
                start_new_session=True,
                limit=MAX_ANSWER_BYTES,
            )
        except OSError as exc:
            raise SetupError(f"the sandbox could not be started: {exc}", code="sandbox_failed") from exc
        finally:
            if number is not None:
                os.close(number)
        try:
            yield process
        finally:
            end([process.pid, *descendants(process.pid)])
            async with asyncio.timeout(STOP_S):
                await process.wait()


async def _speak(process: asyncio.subprocess.Process, task: bytes) -> tuple[bytes, bytes]:
    """Give the task and read the outcome, and what was complained of. Nothing of the tool runs before it has it."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # all are pipes
    _give_up_first(process.pid)
    with contextlib.suppress(ConnectionError):
        process.stdin.write(task)
        await process.stdin.drain()
        process.stdin.close()
    said = bytearray()
    while len(said) <= MAX_ANSWER_BYTES and (part := await process.stdout.read(1 << 16)):
        said += part
        if said.endswith(b"\n"):
            return bytes(said), b""
    try:
        async with asyncio.timeout(1.0):
            return bytes(said), await process.stderr.read(WORDS)
    except TimeoutError:
        return bytes(said), b""


async def _watch(pid: int, folders: tuple[Path, ...]) -> str:
    """Wait until all processes together take too much, and say what of."""
    looked_at = float("-inf")
    while True:
        if (taken := _resident_bytes(pid)) > MAX_TOGETHER_BYTES:
            return f"its processes took {taken >> 20} MiB of memory"
        if is_exhausted(_meminfo()):  # what nobody's page tables show, such as shared memory
            return "this machine has hardly any memory left"
        if time.monotonic() - looked_at >= DISK_S:
            for folder in folders:
                if fault := await asyncio.to_thread(_disk_fault, folder):
                    return fault
            looked_at = time.monotonic()
        await asyncio.sleep(WATCH_S)


def _ended(said: bytes, complaint: bytes) -> Ended:
    try:
        return msgspec.json.decode(said, type=Ended)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        why = complaint.decode("utf-8", "replace").strip().splitlines()
        told = f": {why[-1][:300]}" if why else ""
        return Ended(f"[stopped: the tool's process ended without an answer{told}]", False, "ended")


def _filter_fd() -> int | None:
    """The filter of system calls as a file that bubblewrap reads."""
    wanted = program()
    if wanted is None:
        return None
    number = os.memfd_create("filter")
    os.write(number, wanted)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _resident_bytes(pid: int) -> int:
    pages = 0
    for each in descendants(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{each}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def is_exhausted(table: str) -> bool:
    """Whether a machine has hardly any memory left, by its /proc/meminfo; what that does not say is not guessed."""
    kib = {words[0]: int(words[1]) for line in table.splitlines() if len(words := line.split()) == 3}
    total, left = kib.get("MemTotal:"), kib.get("MemAvailable:")
    return total is not None and left is not None and left << 10 < min(MIN_FREE_BYTES, (total << 10) // 16)


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text("ascii")
    except OSError:
        return ""


def _give_up_first(pid: int) -> None:
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            Path(f"/proc/{each}/oom_score_adj").write_text(_WORST, "ascii")


def _disk_fault(folder: Path) -> str:
    """In what a folder takes too much; empty where it does not. What cannot be looked into counts as too much."""
    entries, taken, waiting = 0, 0, [str(folder)]
    try:
        disk = os.statvfs(folder)
    except OSError:
        return "its folder is gone"
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:  # also what was removed and is still open takes room
        return "the disk is nearly full"
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > MAX_ENTRIES:
                        return f"it holds more than {MAX_ENTRIES} files"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        taken += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
        except OSError as exc:
            return f"a folder in it cannot be looked into: {exc.strerror}"
        if taken > MAX_FOLDER_BYTES:
            return f"its files take more than {MAX_FOLDER_BYTES >> 20} MiB"
    return ""


def empty(folder: Path) -> None:
    """Remove a folder with all that a tool left in it, whatever its names, depth and permissions. Blocks."""
    # The system's own programs: they go as deep as a tool can, where Python's recursion ends. Links are not followed.
    # Permissions stop only who is not root. What a tool still writes while it is being ended goes with the next try.
    remove, permit = ("/bin/rm", "-rf", "--"), ("/bin/chmod", "-R", "u+rwX", "--")
    for words in (remove, permit, remove, permit, remove):
        if not os.path.lexists(folder):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run((*words, str(folder)), capture_output=True, timeout=REMOVE_S, check=False)  # noqa: S603  # no shell
