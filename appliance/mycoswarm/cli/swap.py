"""Puts one file in another's place, keeps the old one, and goes back to it. At each moment there is a whole program."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mycoswarm.base.errors import InputError, SetupError, StorageError, SwarmError
from mycoswarm.cli.call import Call

MAX_BYTES = 1 << 30
START_S = 120.0  # a first start unpacks everything, on a slow card
STOP_S = 20.0


def copied(file: Path, program: Path) -> tuple[Path, bytes]:
    """Copy a file beside the program; gives the copy and its BLAKE2b-512. What is checked and what runs is the copy.

    Raises:
        InputError: it cannot be read, or is no program's size.
        StorageError: the program's folder cannot be written to.
    """
    try:
        source = file.open("rb")
    except OSError as exc:
        raise InputError(f"{file} cannot be read: {exc.strerror}") from exc
    digest, taken = hashlib.blake2b(), 0
    with source:
        try:
            number, name = tempfile.mkstemp(prefix=f".{program.name}.", dir=program.parent)
        except OSError as exc:
            raise StorageError(
                f"{program.parent} cannot be written to: {exc.strerror}", hint="Run this as who may, such as root."
            ) from exc
        fresh = Path(name)
        try:
            with os.fdopen(number, "wb") as target:
                while part := source.read(1 << 20):
                    taken += len(part)
                    if taken > MAX_BYTES:
                        raise InputError(f"{file} is larger than any version of this program")
                    digest.update(part)
                    target.write(part)
                target.flush()
                os.fsync(target.fileno())
        except OSError as exc:
            fresh.unlink(missing_ok=True)
            raise StorageError(f"{file} cannot be copied to {program.parent}: {exc.strerror}") from exc
        except SwarmError:
            fresh.unlink(missing_ok=True)
            raise
    return fresh, digest.digest()


def made_ready(fresh: Path, program: Path) -> None:
    """Give the copy the program's mode and owner; only then may it be run."""
    known = program.stat()
    if (fresh.stat().st_uid, fresh.stat().st_gid) != (known.st_uid, known.st_gid):
        os.chown(fresh, known.st_uid, known.st_gid)
    fresh.chmod(known.st_mode & 0o755)  # never one that others may write, and no setuid


def version_of(program: Path) -> str:
    """What a program says its version is.

    Raises:
        SetupError: it does not start here, or says nothing of the kind.
    """
    try:
        done = subprocess.run(  # noqa: S603  # a program whose signature held
            [str(program), "version", "--json"],
            capture_output=True,
            timeout=START_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        told = json.loads(done.stdout)["mycoswarm"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as exc:
        raise SetupError("the new version does not start on this machine", hint="Nothing was changed.") from exc
    return str(told)


def tried(program: Path) -> None:
    """Start a daemon of it on a folder of its own, wait for its /healthz, and stop it.

    Raises:
        SetupError: it does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="mycoswarm-update-") as name:
        folder, log = Path(name) / "data", Path(name) / "log"
        own = ("run", "--console", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--interface", "127.0.0.1", "--with-stdin")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603  # a program whose signature held
                [str(program), "--data", str(folder), *own],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=environment,
                start_new_session=True,
            )
        try:
            if not answers(folder, START_S, lambda: process.poll() is None):
                last = log.read_text("utf-8", "replace").splitlines()[-1:]
                raise SetupError(
                    f"a daemon of the new version does not answer: {last[0] if last else 'it says nothing'}",
                    hint="Nothing was changed.",
                )
        finally:
            assert process.stdin is not None  # it is a pipe
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(folder: Path, limit_s: float, is_alive: Callable[[], bool] = lambda: True) -> bool:
    """Whether the daemon of a folder answers /healthz within a time."""
    until, call = time.monotonic() + limit_s, Call(folder)
    while time.monotonic() < until and is_alive():
        if call.is_alive():
            return True
        time.sleep(0.1)
    return False


def old_of(program: Path) -> Path:
    """Where the version before is kept."""
    return program.with_name(f"{program.name}.old")


def swap(fresh: Path, program: Path) -> None:
    """The new one takes the program's place, and the program's file is kept under its old name.

    Raises:
        StorageError: the folder cannot be written to.
    """
    try:
        kept = program.with_name(f".{program.name}.keep")
        kept.unlink(missing_ok=True)
        try:
            os.link(program, kept)
        except OSError:  # a file system without links
            shutil.copy2(program, kept)
        kept.replace(old_of(program))
        fresh.replace(program)
        _settle(program.parent)
    except OSError as exc:
        raise StorageError(f"{program} cannot be replaced: {exc.strerror}") from exc


def go_back(program: Path) -> None:
    """The old one takes its place again.

    Raises:
        StorageError: the folder cannot be written to.
    """
    try:
        old_of(program).replace(program)
        _settle(program.parent)
    except OSError as exc:
        raise StorageError(f"{old_of(program)} cannot be put back: {exc.strerror}") from exc


def _settle(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
