"""One process at a time may change a data folder: the daemon, or a command while none runs."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mycoswarm.base.errors import SetupError, StorageError

LOCK_NAME = "daemon.lock"


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a data folder, made where it is not there yet; the system lets go of it when this process ends, however.

    Raises:
        SetupError: a daemon runs on it.
        StorageError: it cannot be made, written or locked.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise _unusable(folder, exc) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise SetupError(
            f"another mycoswarm-node already runs on {folder}",
            hint="Stop it first, or give this one a folder of its own with `--data FOLDER`.",
            code="already_running",
        ) from exc
    except OSError as exc:
        os.close(descriptor)
        raise _unusable(folder, exc) from exc
    try:
        yield
    finally:
        os.close(descriptor)


def _unusable(folder: Path, exc: OSError) -> StorageError:
    return StorageError(
        f"the data folder {folder} cannot be used: {exc.strerror}",
        hint="Name a folder that this user may write, on a disk of this machine, with `--data FOLDER`.",
    )
