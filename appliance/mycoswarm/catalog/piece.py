"""Pieces of a model: their list (the manifest), and streaming them out of the holder's one file.

The holder never makes a second copy: `PieceSource` reads each piece at its offset in the GGUF. What the pieces are
stands in shard.py; depot.py keeps them on other nodes (`PieceStore`) and makes a layer range's files of them
(`assemble`).

Not covered: a manifest cannot be checked against the model's digest without the whole file, so it is only as good as
the node that holds the model.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mycoswarm.base.errors import ModelFileError, SplitError, StorageError
from mycoswarm.catalog.architecture import ARCHITECTURES, MAX_LAYERS, find_architecture, find_split_fault
from mycoswarm.catalog.container import PAGE_BYTES, Container, read_container
from mycoswarm.catalog.shard import TABLE, PiecePlan, names_for, piece_names, plan_pieces

CHUNK_BYTES = 1 << 20
_MAX_PIECE_BYTES = 1 << 42
_HEX = re.compile(r"[0-9a-f]{64}")

Watcher = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class PieceFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One piece: its name, its length and the hash of its bytes."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pieces of one model, in the order of `shard.piece_names`. `table_type` is a ggml type's name."""

    model_digest: str
    architecture: str
    n_layer: int
    n_embd: int
    n_vocab: int
    table_type: str
    is_tied: bool
    pieces: tuple[PieceFacts, ...]


def find_manifest_fault(manifest: Manifest) -> str | None:
    """Say why a manifest from another node is impossible, or None where it is sound."""
    if not _HEX.fullmatch(manifest.model_digest):
        return "its digest is none"
    if manifest.architecture not in ARCHITECTURES:
        return f"its architecture {manifest.architecture[:64]!r} cannot be split"
    if not (1 < manifest.n_layer <= MAX_LAYERS and 0 < manifest.n_embd < 1 << 24 and 0 < manifest.n_vocab < 1 << 28):
        return "its sizes are out of range"
    if tuple(piece.name for piece in manifest.pieces) != piece_names(manifest.n_layer):
        return "its list of pieces is not the one that its layers need"
    if not all(0 < piece.bytes < _MAX_PIECE_BYTES and _HEX.fullmatch(piece.sha256) for piece in manifest.pieces):
        return "a piece in it has an impossible length or hash"
    return None


def pieces_for(manifest: Manifest, first: int, last: int) -> tuple[PieceFacts, ...]:
    """The pieces that layers [first, last) need.

    Raises:
        SplitError: no such range in this model.
    """
    if not 0 <= first < last <= manifest.n_layer:
        raise SplitError(f"there are no layers [{first}, {last}) in a model of {manifest.n_layer} layers")
    wanted = frozenset(names_for(first, last, manifest.n_layer, is_tied=manifest.is_tied))
    return tuple(piece for piece in manifest.pieces if piece.name in wanted)


class PieceSource:
    """A model file on the node that holds it, read piece by piece. Threads may share one."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ModelFileError: not a sound GGUF file.
            SplitError: the model cannot be split; the message says why.
            StorageError: the file cannot be read.
        """
        self.path = path
        self.model: Container = read_container(path)
        fault = find_split_fault(self.model)
        if fault is not None:
            raise SplitError(f"{path.name} cannot be split: {fault}")
        self.architecture = find_architecture(self.model.text("general.architecture") or "")
        self.n_layer = self.model.integer(f"{self.architecture.name}.block_count") or 0
        self.plans: dict[str, PiecePlan] = {plan.name: plan for plan in plan_pieces(self.model, self.n_layer)}

    def open(self, name: str) -> Iterator[bytes]:
        """The bytes of one piece, a chunk at a time.

        Raises:
            ModelFileError: no such piece, or the file grew shorter.
            StorageError: the file cannot be read.
        """
        plan = self.plans.get(name)
        if plan is None:
            raise ModelFileError(f"{self.path.name} has no piece {name[:64]!r}")
        return self._stream(plan)

    def _stream(self, plan: PiecePlan) -> Iterator[bytes]:
        yield plan.header
        try:
            with self.path.open("rb") as file:
                for tensor in plan.tensors:
                    file.seek(tensor.offset)
                    left = tensor.bytes
                    while left:
                        chunk = file.read(min(left, CHUNK_BYTES))
                        if not chunk:
                            raise ModelFileError(f"{self.path.name} grew shorter while it was read")
                        left -= len(chunk)
                        yield chunk
                    if padding := -tensor.bytes % PAGE_BYTES:
                        yield bytes(padding)
        except OSError as exc:
            raise StorageError(f"{self.path} cannot be read: {exc.strerror}") from exc

    def manifest(self, digest: str, watch: Watcher | None = None) -> Manifest:
        """Hash every piece: one pass over the file. `digest` is the file's own.

        Raises:
            ModelFileError: the file grew shorter.
            StorageError: the file cannot be read.
        """
        total, done = sum(plan.bytes for plan in self.plans.values()), 0
        pieces = []
        for plan in self.plans.values():
            hasher = hashlib.sha256()
            for chunk in self._stream(plan):
                hasher.update(chunk)
                done += len(chunk)
                if watch is not None:
                    watch(done, total)
            pieces.append(PieceFacts(name=plan.name, bytes=plan.bytes, sha256=hasher.hexdigest()))
        table = self.plans[TABLE].tensors[0]
        return Manifest(
            model_digest=digest,
            architecture=self.architecture.name,
            n_layer=self.n_layer,
            n_embd=table.shape[0],
            n_vocab=table.shape[1],
            table_type=table.kind.name,
            is_tied=all(tensor.name != "output.weight" for tensor in self.model.tensors),
            pieces=tuple(pieces),
        )


def write_manifest(path: Path, digest: str | None = None, watch: Watcher | None = None) -> Manifest:
    """The manifest of a model file; reads it twice where `digest` is not given.

    Raises:
        ModelFileError: not a sound GGUF file.
        SplitError: the model cannot be split.
        StorageError: the file cannot be read.
    """
    return PieceSource(path).manifest(digest or hash_file(path, watch), watch)


def open_piece(path: Path, manifest: Manifest, name: str) -> Iterator[bytes]:
    """One piece's bytes out of the holder's file. Many pieces of one file: keep a `PieceSource` instead.

    Raises:
        ModelFileError: no such piece, or not the file that the manifest was made of.
        SplitError: the model cannot be split.
        StorageError: the file cannot be read.
    """
    source = PieceSource(path)
    if source.n_layer != manifest.n_layer or source.architecture.name != manifest.architecture:
        raise ModelFileError(f"{path.name} is not the file that its manifest was made of", hint="Add the file again.")
    return source.open(name)


def hash_file(path: Path, watch: Watcher | None = None) -> str:
    """A file's SHA-256 in hex: what we call a model's digest.

    Raises:
        StorageError: the file cannot be read.
    """
    hasher = hashlib.sha256()
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                hasher.update(chunk)
                done += len(chunk)
                if watch is not None:
                    watch(done, total)
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror}") from exc
    return hasher.hexdigest()
