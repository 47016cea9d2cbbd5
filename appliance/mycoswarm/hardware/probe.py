"""Runs one short command and takes its output, within a time limit and without ever raising for what it does.

Covered: a command that is absent, fails, crashes, prints rubbish, hangs, or hangs so deep in a driver that
even SIGKILL does not end it (it is then left to the kernel). Not covered: children of the command.
"""

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.hardware.root import clean

# A killed process that is not gone by then sits in the kernel and cannot be waited for.
_REAP_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Either the standard output, or None and why there is none in words for the owner."""

    output: str | None
    reason: str | None


def run_briefly(command: Sequence[str], *, limit_s: float) -> Outcome:
    """Run `command` (no shell, no input) and wait at most `limit_s` seconds for it."""
    try:
        process = subprocess.Popen(  # noqa: S603  # commands are constants of this package and the prefix it is given
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except (OSError, ValueError) as exc:
        return Outcome(None, f"could not be started: {clean(str(exc))}")
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return Outcome(None, f"took longer than {limit_s:g} s")
    if process.returncode != 0:
        return Outcome(None, _explain(process.returncode, errors.decode("utf-8", errors="replace")))
    return Outcome(output.decode("utf-8", errors="replace"), None)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.communicate(timeout=_REAP_LIMIT_S)
    except subprocess.TimeoutExpired:
        # Its pipes are ours to close; the process itself ends when its driver lets it go.
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _explain(code: int, errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    last = f": {clean(lines[-1])}" if lines else ""
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was ended by {names.get(-code, f'signal {-code}')}{last}"
    return f"ended with code {code}{last}"
