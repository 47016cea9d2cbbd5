"""A folder of small files that are each written whole or not at all, and read by their owner only."""

import os
import secrets
import stat
from pathlib import Path

from mycoswarm.base.errors import SetupError, StorageError


class Folder:
    """Small private files by name. Every write is atomic and on disk before `write` returns."""

    def __init__(self, path: Path) -> None:
        """Take the folder, which is made with mode 0700 where it is missing.

        Raises:
            StorageError: it cannot be made.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"the folder {path} cannot be made: {exc.strerror}") from exc

    def read(self, name: str, *, secret: bool = False) -> bytes | None:
        """Give a file's bytes, or None where there is none.

        Raises:
            StorageError: it is there and cannot be read.
            SetupError: a secret file that others on this machine may read.
        """
        path = self.path / name
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if secret and os.name == "posix" and stat.S_IMODE(mode) & 0o077:
                    raise SetupError(
                        f"the key file {path} may be read by other users of this machine",
                        hint=f"If nobody else has read it, run: chmod 600 {path}",
                        code="key_file_exposed",
                    )
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StorageError(f"{path} cannot be read: {exc.strerror}") from exc

    def write(self, name: str, data: bytes) -> None:
        """Put a whole file in place, readable by its owner only.

        Raises:
            StorageError: the disk is full or not writable; the file from before is untouched.
        """
        path = self.path / name
        fresh = self.path / f".{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
            self._sync()
        except OSError as exc:
            raise StorageError(f"{path} cannot be written: {exc.strerror}") from exc

    def remove(self, name: str) -> None:
        """Remove a file; that it is not there is no error.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError(f"{self.path / name} cannot be removed: {exc.strerror}") from exc

    def _sync(self) -> None:
        """Make the new name itself last: a rename lives in the folder's own blocks."""
        if os.name != "posix":
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
