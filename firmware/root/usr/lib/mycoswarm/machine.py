"""What the appliance's own programs share: places, files that survive a pulled plug, the boot partition, the daemon."""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOOT = Path("/boot/firmware")
DATA = Path("/data")
OWNER = DATA / "mycoswarm" / "owner.sock"
CONSOLE_PORT = 6926
ANSWER_S = 30.0
BOOT_LOCK = Path("/run/mycoswarm-boot.lock")
BOOT_S = 300.0  # a slow card takes a minute for an update's kernel


class Trouble(Exception):
    """What went wrong, in words for the owner."""


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file in place in one step, so that a pulled plug leaves the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    settle(path.parent)


def settle(folder: Path) -> None:
    """Have a folder's entries on the card."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def run(*words: str, limit_s: float = 60.0, given: bytes | None = None) -> bytes:
    """Run a program to its end; gives what it printed.

    Raises:
        Trouble: it failed, or took too long.
    """
    try:
        done = subprocess.run(words, input=given, capture_output=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Trouble(f"{words[0]}: {exc}") from exc
    if done.returncode:
        raise Trouble(f"{words[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[:400]}")
    return done.stdout


@contextlib.contextmanager
def alone(lock: Path, limit_s: float, what: str) -> Iterator[None]:
    """Have something to oneself among the appliance's programs; it is free again when this one ends, however it ends.

    Raises:
        Trouble: another one has it for longer than that.
    """
    with lock.open("a") as file:
        until = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() >= until:
                    raise Trouble(what) from exc
                time.sleep(0.1)
        yield


@contextlib.contextmanager
def writable_boot() -> Iterator[Path]:
    """The boot partition, open for writing only for as long as it takes, and for one program at a time: who is done
    first would make it read-only for the other.

    Raises:
        Trouble: it is not there, or another program does not let go of it.
    """
    with alone(BOOT_LOCK, BOOT_S, "another program writes to the boot partition"):
        run("mount", "-o", "remount,rw", str(BOOT))
        try:
            yield BOOT
        finally:
            run("sync", "-f", str(BOOT))
            run("mount", "-o", "remount,ro", str(BOOT))


def reread(path: Path) -> bytes:
    """A file that was synced, as the card gives it, not the cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(OWNER))


def ask(method: str, path: str, body: Any = None) -> Any:
    """One request to the daemon as its owner.

    Raises:
        Trouble: it does not answer, or says no.
    """
    connection = _Connection("localhost", timeout=ANSWER_S)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read(1 << 20))
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise Trouble(f"the daemon does not answer: {exc}") from exc
    finally:
        connection.close()
    if answer.status != 200:
        said = told.get("error", {}).get("message", "") if isinstance(told, dict) else ""
        raise Trouble(f"the daemon says: {str(said)[:300]}")
    return told


def is_healthy() -> bool:
    """Whether the daemon answers as anybody on the network would ask it."""
    connection = http.client.HTTPConnection("127.0.0.1", CONSOLE_PORT, timeout=5.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
