"""Model files on their way to the shelf, which may take days and many tries.

    <folder>/NAME.gguf    what has come so far
    <folder>/NAME.json    of which file that is, and how much of it is surely on the disk

Covered: a try that is cut off, also by kill -9, leaves what has come, and the next goes on there; two processes do not
write one file; a file whose hash is known counts only when it is right; what does not begin as a GGUF file is refused
at its first bytes. Not covered: the contents of what has come, which the shelf looks at.
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from mycoswarm.base.errors import BusyError, ModelFileError
from mycoswarm.catalog.depot import check_space, translated

FOLDER_NAME = "incoming"  # in the shelf's: on the same disk, so that what has come need not be copied
MAGIC = b"GGUF"
CHUNK_BYTES = 1 << 20
SYNC_BYTES = 64 << 20  # so much is fetched again, at most, where the hash is unknown and the power went
SPARE_BYTES = 256 << 20  # of the disk is left: the node's database is on it, too
BUSY_S = 60
MAX_LISTED = 100


class Slip(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a file. `sha256` and `validator` as the server said them, None where it did not; `safe_bytes`
    are surely on the disk."""

    source: str
    total_bytes: int
    sha256: str | None = None
    validator: str | None = None
    safe_bytes: int = 0


class Intake:
    """One file. Blocking: call it from a thread. A context: leaving it keeps what has come, for the next try."""

    def __init__(
        self, folder: Path, name: str, *, sync_bytes: int = SYNC_BYTES, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        """`name` must be one that the shelf takes. `sync_bytes`: so much may come between two words of what is safe."""
        self._sync_bytes, self._chunk_bytes = sync_bytes, chunk_bytes
        self.path = folder / f"{name}.gguf"
        self.slip: Slip | None = None
        self.count = 0  # bytes that have come
        self._beside = folder / f"{name}.json"
        self._file: BinaryIO | None = None
        self._hasher = hashlib.sha256()
        self._is_ready = self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, source: str) -> None:
        """Take up what there is of this source, and read it through for the hash of the whole. `source` names it as the
        slip does; what is there of another is dropped.

        Raises:
            BusyError: another process is at it.
            StorageError: it cannot be read or written.
        """
        with translated(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise BusyError(f"{self.path.stem} is being pulled already", retry_after_s=BUSY_S) from exc
            self.slip, size = self._read_slip(), self.path.stat().st_size
            if self.slip is not None and self.slip.source != source:
                self.slip = None
            if self.slip is not None:
                kept = size if self.slip.sha256 is not None else min(size, self.slip.safe_bytes)
                self._file.seek(0)
                while self.count < kept and not self._is_stopped:
                    chunk = self._file.read(min(self._chunk_bytes, kept - self.count))
                    self._hasher.update(chunk)
                    self.count += len(chunk)
            if self._is_stopped:
                return
            self._file.truncate(self.count)
            self._file.seek(0, os.SEEK_END)
            self._is_ready = True

    def stop(self) -> None:
        """Have `open`, in another thread, end soon: nobody waits for it any more."""
        self._is_stopped = True

    @property
    def digest(self) -> str:
        """The SHA-256 of what has come."""
        return self._hasher.hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether all has come."""
        return self.slip is not None and self.count == self.slip.total_bytes

    def begin(self, slip: Slip, first: int) -> None:
        """Bytes of this file come now, from number `first`: 0, or as many as there are.

        Raises:
            StorageError: there is no room for it.
        """
        assert self._file is not None and self._is_ready and first in (0, self.count)
        with translated(self.path):
            if not first:
                self._file.truncate(0)
                self._hasher, self.count = hashlib.sha256(), 0
            elif self.slip is not None:
                slip = msgspec.structs.replace(slip, sha256=slip.sha256 or self.slip.sha256)
            check_space(self.path.parent, slip.total_bytes - self.count + SPARE_BYTES)
            self.slip = slip
            self._sync()

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ModelFileError: this is no GGUF file, or more than was promised.
            StorageError: the disk is full or cannot be written.
        """
        assert self._file is not None and self.slip is not None
        if not self.count and not data.startswith(MAGIC):
            raise ModelFileError("what comes is no GGUF file", hint="Name the address of the file itself.")
        if self.count + len(data) > self.slip.total_bytes:
            raise ModelFileError(f"more than the {self.slip.total_bytes} bytes of the file came")
        with translated(self.path):
            self._file.write(data)
            self._hasher.update(data)
            self.count += len(data)
            if self.count - self.slip.safe_bytes >= self._sync_bytes:
                self._sync()

    def finish(self) -> None:
        """All has come: is it what was promised?

        Raises:
            ModelFileError: its hash is another, or bytes are missing.
            StorageError: the disk is full or cannot be written.
        """
        assert self.slip is not None
        with translated(self.path):
            self._sync()
        if not self.is_whole or self.slip.sha256 not in (None, self.digest):
            raise ModelFileError(
                "the file is not the one that was promised: its SHA-256 is another",
                hint="Pull it again.",
                code="wrong_hash",
            )

    def close(self) -> None:
        """Keep what there is. A file of which nothing came is removed."""
        if self._file is None or self._file.closed:
            return
        with contextlib.suppress(OSError), self._file:
            if self._is_ready and self.slip is not None and self.count:
                self._sync()
            elif self._is_ready:
                self._remove()

    def discard(self) -> None:
        """Remove it: it is on the shelf, or is not wanted.

        Raises:
            StorageError: it cannot be removed.
        """
        with translated(self.path):
            self._remove()
            if self._file is not None:
                self._file.close()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._beside.unlink(missing_ok=True)

    def _sync(self) -> None:
        assert self._file is not None and self.slip is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self.slip = msgspec.structs.replace(self.slip, safe_bytes=self.count)
        partial = self._beside.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self.slip))
        partial.replace(self._beside)

    def _read_slip(self) -> Slip | None:
        try:
            return msgspec.json.decode(self._beside.read_bytes(), type=Slip)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def unfinished(folder: Path) -> list[tuple[str, Slip, int]]:
    """Files of which a part is here: their names, what they are, and how many bytes have come.

    Raises:
        StorageError: the folder cannot be read.
    """
    found = []
    with translated(folder):
        for path in sorted(folder.glob("*.json"))[:MAX_LISTED] if folder.exists() else ():
            with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
                slip = msgspec.json.decode(path.read_bytes(), type=Slip)
                found.append((path.stem, slip, path.with_suffix(".gguf").stat().st_size))
    return found


def discard(folder: Path, name: str) -> bool:
    """Remove what has come of a file; whether there was something.

    Raises:
        BusyError: it is being pulled.
        StorageError: it cannot be removed.
    """
    if all(name != one for one, _, _ in unfinished(folder)):
        return False
    with Intake(folder, name) as intake:
        intake.open("")  # locked, and dropped: it is of another source
        intake.discard()
    return True
