"""The processes below a process, as Linux lists them; elsewhere none are known."""

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All processes below one. In a sandbox none can leave: its first process takes in those whose parent ended."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        try:
            text = Path(f"/proc/{one}/task/{one}/children").read_text("ascii")
        except OSError:
            continue
        below = [int(word) for word in text.split()]
        found += below
        waiting += below
    return found


def end(pids: list[int]) -> None:
    """Kill these, those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
