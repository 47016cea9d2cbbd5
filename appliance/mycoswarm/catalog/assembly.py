"""The files of one layer range, made of the pieces in a store; and who uses them.

    <folder>/<model digest>/layer-0007-<sha256[:16]>.1.gguf    a second copy, while two ranges want unlike headers
    <folder>/<model digest>/start-0004-0008.gguf               a range's first file, made here
    <folder>/<model digest>/NAME.lease                         flocked as long as somebody uses the files it lists
    <folder>/<model digest>/lock                               flocked while a range is assembled

A moved cut rewrites headers in place: some kilobytes a layer, no weights. A file that a living lease lists and whose
header does not fit is left alone and copied (in shared blocks where the file system can). Locks die with their
process, so a crash leaves nothing locked.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mycoswarm.base.errors import ModelFileError, SplitError, StorageError
from mycoswarm.catalog.architecture import find_architecture, find_key_fault, input_scale
from mycoswarm.catalog.container import Container, padded_bytes, read_container
from mycoswarm.catalog.depot import PieceStore, check_space, translated
from mycoswarm.catalog.piece import CHUNK_BYTES, Manifest, PieceFacts, pieces_for
from mycoswarm.catalog.shard import HEAD, KEYS, TABLE, TOKENIZER, Start, layer_number, plan_start, split_header

_LOCK_TIMEOUT_S = 60.0  # assembling rewrites headers; a copy of layers for a second range is the longest thing it does
_LOCK_POLL_S = 0.02
_MAX_COPIES = 16  # unlike cuts of one model in use on one node at one time


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """One layer range on this machine: GGUF splits in order; on a split ring's first stage the token table and what its
    rows are multiplied by.

    Use it as a context, or `close` it, and leave it only when the stage that maps the files has ended.
    """

    paths: tuple[Path, ...]
    table: Path | None = None
    table_scale: float = 1.0
    lease: BinaryIO | None = None

    def close(self) -> None:
        """Give the files back: another range may now rewrite their headers."""
        if self.lease is not None and not self.lease.closed:
            Path(self.lease.name).unlink(missing_ok=True)
            self.lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def assemble(store: PieceStore | Path, manifest: Manifest, first: int, last: int) -> ShardFiles:
    """Make the files of layers [first, last) for llama.cpp. A path stands for the whole model file: it is used as it
    is.

    Raises:
        SplitError: no such range, or a part of a path's model.
        ModelFileError: the manifest or a piece is not sound. StorageError: a piece is missing, the disk is full or
        cannot be written, another range is being assembled for ever.
    """
    if isinstance(store, Path):
        if (first, last) != (0, manifest.n_layer):
            raise SplitError("only the whole model runs from its own file", hint="Give the pieces to a store first.")
        return ShardFiles(paths=(store,))
    if missing := store.missing(manifest, first, last):
        raise StorageError(f"{len(missing)} pieces are not here yet, {missing[0].name} first", hint="Fetch them again.")
    folder = store.folder / manifest.model_digest
    with translated(folder), _locked(folder / "lock"):
        return _Assembly(store, manifest, first, last).run()


class _Assembly:
    """One range being put together; the folder is locked."""

    def __init__(self, store: PieceStore, manifest: Manifest, first: int, last: int) -> None:
        self._store = store
        self._manifest = manifest
        self._first = first
        self._last = last
        self._folder = store.folder / manifest.model_digest
        self._used = frozenset(_leased(self._folder))
        self._entry = find_architecture(manifest.architecture)

    def run(self) -> ShardFiles:
        manifest, first, last = self._manifest, self._first, self._last
        pieces = {piece.name: piece for piece in pieces_for(manifest, first, last)}
        keys = read_container(self._store.path(manifest, pieces[KEYS]))
        fault = find_key_fault(keys, self._entry, manifest.n_layer)
        said = (keys.integer(f"{self._entry.name}.{key}") for key in ("block_count", "embedding_length"))
        if fault is not None or tuple(said) != (manifest.n_layer, manifest.n_embd):
            raise ModelFileError(
                f"the model's metadata cannot be cut: {fault or 'its sizes are not the promised ones'}"
            )
        tokenizer = read_container(self._store.path(manifest, pieces[TOKENIZER])) if TOKENIZER in pieces else None
        is_last, is_whole = last == manifest.n_layer, (first, last) == (0, manifest.n_layer)
        has_table = is_last and TABLE in pieces
        names = [name for name in pieces if layer_number(name) is not None]
        names += ([HEAD] if is_last else []) + ([TABLE] if has_table else [])
        paths: list[Path] = []
        tensors = 0
        for number, name in enumerate(names, 1):
            path, count = self._fit(pieces[name], number)
            paths.append(path)
            tensors += count
        start = plan_start(
            self._entry,
            keys,
            tokenizer,
            first=first,
            last=last,
            n_layer=manifest.n_layer,
            n_vocab=manifest.n_vocab,
            has_table=has_table,
            split_count=len(paths) + 1,
            split_tensors=tensors,
        )
        paths.insert(0, self._write_start(start, self._store.path(manifest, pieces[KEYS])))
        table = self._store.path(manifest, pieces[TABLE]) if first == 0 and not is_whole else None
        scale = input_scale(self._entry, keys, manifest.n_embd)
        used = [*paths, *([table] if table else [])]
        return ShardFiles(paths=tuple(paths), table=table, table_scale=scale, lease=self._take_lease(used))

    def _fit(self, piece: PieceFacts, number: int) -> tuple[Path, int]:
        """Find or make a copy of a piece whose header suits this range; also says how many tensors it holds."""
        original = self._store.path(self._manifest, piece)
        layer = layer_number(piece.name)
        local = 0 if layer is None else layer - self._first
        for index in range(_MAX_COPIES):
            path = original if index == 0 else original.with_suffix(f".{index}.gguf")
            if not path.exists():
                self._copy(original, path)
            container = self._read(path)
            header = split_header([(t.name, t.shape, t.kind) for t in container.tensors], local=local, number=number)
            with path.open("r+b") as file:
                if file.read(len(header)) == header:
                    return path, len(container.tensors)
                if path.name not in self._used:
                    file.seek(0)
                    file.write(header)
                    return path, len(container.tensors)
        raise StorageError(
            f"{_MAX_COPIES} unlike cuts of this model are in use here", hint="Stop one of its rings, then try again."
        )

    def _read(self, path: Path) -> Container:
        try:
            return read_container(path)
        except ModelFileError as exc:
            if path.name not in self._used:
                path.unlink(missing_ok=True)  # a header torn by a power cut; the piece is fetched again
            raise ModelFileError(
                f"the piece {path.name} is damaged", hint="Try again: it is fetched anew.", code="damaged_piece"
            ) from exc

    def _copy(self, source: Path, target: Path) -> None:
        check_space(self._folder, source.stat().st_size)
        partial = target.with_suffix(".partial")
        try:
            copy_file(source, partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _write_start(self, start: Start, keys: Path) -> Path:
        path = self._folder / f"start-{self._first:04d}-{self._last:04d}.gguf"
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file, keys.open("rb") as source:
                file.write(start.header)
                for tensor in start.shared:
                    source.seek(tensor.offset)
                    file.write(source.read(tensor.bytes).ljust(padded_bytes(tensor.bytes), b"\0"))
                file.truncate(file.tell() + start.zero_bytes)  # a hole: stand-ins take no room on the disk
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _take_lease(self, used: list[Path]) -> BinaryIO:
        path = self._folder / f"{self._first:04d}-{self._last:04d}-{os.getpid()}-{time.monotonic_ns()}.lease"
        lease: BinaryIO = path.open("xb")
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lease.write("\n".join(path.name for path in used).encode())
        lease.flush()
        return lease


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, in shared blocks where the file system can."""
    with source.open("rb") as origin, target.open("wb") as copy:
        try:
            left = os.fstat(origin.fileno()).st_size
            while left:
                count = os.copy_file_range(origin.fileno(), copy.fileno(), min(left, 1 << 30))
                if count == 0:
                    break
                left -= count
        except (AttributeError, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            origin.seek(0)
            copy.seek(0)
            shutil.copyfileobj(origin, copy, CHUNK_BYTES)


def _leased(folder: Path) -> Iterator[str]:
    """The names of all files in use; leases of dead processes are cleared away."""
    for path in folder.glob("*.lease"):
        try:
            with path.open("rb") as lease:
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield from lease.read().decode().split("\n")
                else:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # given back this moment


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    raise StorageError(f"{path} stays locked", hint="Look for a hanging mycoswarm-node.") from exc
                time.sleep(_LOCK_POLL_S)
        yield
