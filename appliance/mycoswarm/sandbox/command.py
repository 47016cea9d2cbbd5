"""Programs as the sandbox's runner starts them: output bounded, everything that was started ended."""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mycoswarm.base.errors import SetupError
from mycoswarm.base.program import PACKED

MAX_OUTPUT_BYTES = 64 << 10
READ_BYTES = 1 << 14
LOOK_S = 0.5
DEFAULT_S = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program printed and how it ended; `ok`: with status 0, in time, and within the bounds."""

    text: str
    ok: bool


def run_shell(command: str, seconds: int = DEFAULT_S) -> Outcome:
    """Run a command with the system's shell."""
    return _run(("/bin/sh", "-c", command), seconds)


def run_python(code: str, seconds: int = DEFAULT_S) -> Outcome:
    """Run a program with Python, apart from its environment and from the workspace's modules.

    Raises:
        SetupError: there is no Python here.
    """
    with tempfile.NamedTemporaryFile("w", prefix="program-", suffix=".py", encoding="utf-8") as file:
        file.write(code)
        file.flush()
        return _run((_interpreter(), "-I", "-B", file.name), seconds)


def _interpreter() -> str:
    """The Python for a program: this one, or the system's where we are packed and bring none."""
    if PACKED is None:
        return sys.executable
    found = shutil.which("python3")
    if found is None:
        raise SetupError(
            "this node has no Python for programs: mycoswarm-node is packed and brings none",
            hint="Install python3 there, for instance `apt install python3`, or use run_shell.",
            code="no_python",
        )
    return found


def _run(words: Sequence[str], seconds: int) -> Outcome:
    deadline = time.monotonic() + seconds
    with subprocess.Popen(  # noqa: S603  # what the tool is for; the sandbox is around it
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            data, fault = _read(process, deadline)
            if fault is None:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    fault = "it took too long"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    text = data.decode("utf-8", "replace")
    if fault is not None:
        return Outcome(f"{text}\n[stopped: {fault}]", False)
    status = process.returncode
    if status == 0:
        return Outcome(text, True)
    how = f"status {status}" if status > 0 else f"signal {-status} ({_signal_name(-status)})"
    return Outcome(f"{text}\n[ended with {how}]", False)


def _read(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, str | None]:
    """What it prints, and why it has to be stopped, if it has."""
    assert process.stdout is not None  # it is a pipe
    data, number = bytearray(), process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(number, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(data), "it took too long"
            if not selector.select(min(left, LOOK_S)):
                if process.poll() is not None:
                    return bytes(data), None  # a process of its own that still holds the pipe is not waited for
                continue
            part = os.read(number, READ_BYTES)
            if not part:
                return bytes(data), None
            data += part
            if len(data) > MAX_OUTPUT_BYTES:
                return bytes(data[:MAX_OUTPUT_BYTES]), f"it printed more than {MAX_OUTPUT_BYTES} bytes"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
