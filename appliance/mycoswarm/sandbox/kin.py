"""The processes below a process, as Linux lists them; elsewhere none are known."""

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All processes below one. In a sandbox none can leave: its first process takes in those whose parent ended."""
    found, waiting = [], [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def _children(pid: int) -> list[int]:
    """The processes that any thread of this one began: each thread has a list of its own."""
    words: list[bytes] = []
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                words += (thread / "children").read_bytes().split()
    return [int(word) for word in words]


def threads_of(user_id: int) -> int:
    """How many threads a user has on this machine, as the kernel counts them against RLIMIT_NPROC."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, KeyError, IndexError, ValueError):
            fields = dict(line.split(":", 1) for line in path.read_text("utf-8", "replace").splitlines() if ":" in line)
            if int(fields["Uid"].split()[0]) == user_id:
                count += int(fields["Threads"])
    return count


def end(pids: list[int]) -> None:
    """Kill these, those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
