"""Pieces that a node keeps of models whose file lies elsewhere.

    <folder>/<model digest>/layer-0007-<sha256[:16]>.gguf      a piece; its header is rewritten for a range
    <folder>/<model digest>/NAME.partial                       a piece on its way

Covered: a piece counts only when its SHA-256 and its layout are right; no name from another node forms a path
unchecked; a full disk leaves nothing half-written. Not covered: somebody on this machine who writes into the folder.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mycoswarm.base.errors import ModelFileError, StorageError
from mycoswarm.base.units import format_bytes
from mycoswarm.catalog.container import read_container
from mycoswarm.catalog.piece import Manifest, PieceFacts, find_manifest_fault, pieces_for
from mycoswarm.catalog.shard import find_piece_fault


class IncomingPiece:
    """One piece on its way to the disk. A context: what is not finished when it is left is removed."""

    def __init__(self, path: Path, manifest: Manifest, piece: PieceFacts) -> None:
        self._path = path
        self._manifest = manifest
        self._piece = piece
        self._hasher = hashlib.sha256()
        self._written = 0
        # Two fetches of one piece at a time are wasteful, not wrong: each has its own file, the first to end counts.
        self._partial = path.with_suffix(f".{os.getpid()}-{id(self)}.partial")
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            check_space(path.parent, piece.bytes)
            self._file: BinaryIO = self._partial.open("xb")

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            ModelFileError: more bytes than the piece has.
            StorageError: the disk is full or cannot be written.
        """
        self._written += len(chunk)
        if self._written > self._piece.bytes:
            raise _foul(self._piece, f"more than its {self._piece.bytes} bytes came")
        self._hasher.update(chunk)
        with translated(self._path):
            self._file.write(chunk)

    def finish(self) -> Path:
        """Check the piece and let it count.

        Raises:
            ModelFileError: its bytes are not the ones that the manifest names, or not that piece.
            StorageError: the disk is full or cannot be written.
        """
        if self._written != self._piece.bytes or self._hasher.hexdigest() != self._piece.sha256:
            raise _foul(self._piece, "its bytes are not the ones that were promised")
        with translated(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        container = read_container(self._partial)
        fault = find_piece_fault(
            self._piece.name, container, n_embd=self._manifest.n_embd, n_vocab=self._manifest.n_vocab
        )
        if fault is not None:
            raise _foul(self._piece, fault)
        with translated(self._path):
            self._let_count()
        return self._path

    def _let_count(self) -> None:
        """Give the piece its name, unless another fetch has: that file may be in use with a header of its own."""
        try:
            self._path.hardlink_to(self._partial)
        except FileExistsError:
            return
        except OSError:
            self._partial.replace(self._path)  # a file system without hard links

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk says so again when buffered bytes are dropped
            self._file.close()
        self._partial.unlink(missing_ok=True)


class PieceStore:
    """The pieces that this node keeps. Blocking: call it from a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, manifest: Manifest, piece: PieceFacts) -> bool:
        """Whether a piece is here, whole and checked."""
        return self.path(manifest, piece).exists()

    def missing(self, manifest: Manifest, first: int, last: int) -> tuple[PieceFacts, ...]:
        """The pieces of layers [first, last) that must still be fetched.

        Raises:
            ModelFileError: the manifest is impossible.
            SplitError: no such range.
        """
        check_manifest(manifest)
        return tuple(piece for piece in pieces_for(manifest, first, last) if not self.has(manifest, piece))

    def begin(self, manifest: Manifest, piece: PieceFacts) -> IncomingPiece:
        """Receive a piece by `write` and `finish`, for callers that wait between chunks.

        Raises:
            ModelFileError: the manifest is impossible, or has no such piece.
            StorageError: the disk is full or cannot be written.
        """
        check_manifest(manifest)
        if piece not in manifest.pieces:
            raise _foul(piece, "the list of pieces does not hold it")
        return IncomingPiece(self.path(manifest, piece), manifest, piece)

    def receive(self, manifest: Manifest, piece: PieceFacts, chunks: Iterable[bytes]) -> Path:
        """Write a piece, check it, and only then let it count.

        Raises:
            ModelFileError: its bytes are not the ones that the manifest names, or not that piece.
            StorageError: the disk is full or cannot be written; nothing half-written stays.
        """
        with self.begin(manifest, piece) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.finish()

    def path(self, manifest: Manifest, piece: PieceFacts) -> Path:
        """Where a piece lies or will lie. The manifest must be checked."""
        return self.folder / manifest.model_digest / f"{piece.name}-{piece.sha256[:16]}.gguf"

    def remove(self, model_digest: str) -> None:
        """Forget a model's pieces. What a stage has mapped stays readable to it.

        Raises:
            StorageError: the folder cannot be removed.
        """
        if (self.folder / model_digest).parent == self.folder and (self.folder / model_digest).exists():
            with translated(self.folder):
                shutil.rmtree(self.folder / model_digest)


def check_manifest(manifest: Manifest) -> None:
    """
    Raises:
        ModelFileError: a manifest that no honest node would send.
    """
    fault = find_manifest_fault(manifest)
    if fault is not None:
        raise ModelFileError(
            f"the list of the model's pieces is not sound: {fault}",
            hint="Update the node that holds the model, or add the model there again.",
        )


def check_space(folder: Path, wanted_bytes: int) -> None:
    """
    Raises:
        StorageError: fewer bytes are free than wanted.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes:
        raise StorageError(
            f"the disk of {folder} is full: {format_bytes(wanted_bytes)} are needed, {format_bytes(free)} are free",
            hint="Free some space on this node, or let it hold fewer layers.",
            code="disk_full",
        )


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about `path` into ours.

    Raises:
        StorageError: the disk is full or cannot be read or written.
    """
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StorageError(
            f"the disk of {path.parent} is full" if full else f"{path} cannot be written: {exc.strerror}",
            hint="Free some space on this node, or let it hold fewer layers." if full else None,
            code="disk_full" if full else None,
        ) from exc


def _foul(piece: PieceFacts, what: str) -> ModelFileError:
    return ModelFileError(
        f"the piece {piece.name[:64]!r} was refused: {what}",
        hint="Try again; if it stays so, add the model again on the node that holds it.",
    )
