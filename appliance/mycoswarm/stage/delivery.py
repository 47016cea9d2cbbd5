"""Gets a stage's files onto its machine: from its own shelf, or piece by piece from the node that holds the model.

The holder wants the ring's ticket with each request. A piece counts only when its hash is right, so a connection that
breaks half-way costs that piece alone: the next try goes on with the others.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from mycoswarm.base.errors import ModelFileError, ProtocolError, SwarmError, UnreachableError
from mycoswarm.catalog.architecture import find_architecture
from mycoswarm.catalog.assembly import assemble
from mycoswarm.catalog.depot import IncomingPiece, PieceStore
from mycoswarm.catalog.piece import Manifest, PieceFacts, open_piece, pieces_for
from mycoswarm.stage.failure import revive
from mycoswarm.stage.host import Files, OnProgress
from mycoswarm.stage.permit import write_sealed
from mycoswarm.swarm.client import Connection, Stream
from mycoswarm.wire.line import decode_report
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Failed
from mycoswarm.wire.ticket import Sealed

TICKET_HEADER = "x-mycoswarm-ticket"
ANSWER_S = 120.0  # the holder may have to hash the whole file once
CHUNK_S = 30.0
MAX_MANIFEST_BYTES = 1 << 20  # 512 layers take 66 KB
WRITE_BYTES = 1 << 20  # per turn of the writing thread

Directory = Mapping[str, tuple[str, ...]]


class Library(Protocol):
    """The models that lie whole on this node, by digest. Blocking; called from threads."""

    def path(self, model_digest: str) -> Path | None:
        """Where a model's file is, None where this node does not hold it."""

    def manifest(self, model_digest: str) -> Manifest:
        """The list of its pieces. Raises SwarmError."""


def ticket_header(sealed: Sealed) -> tuple[bytes, bytes]:
    """The header that shows a ring's ticket to the holder of its model."""
    return TICKET_HEADER.encode(), base64.b64encode(write_sealed(sealed))


class Delivery:
    """This node's way to get a stage's files; what `HostServices.prepare` calls."""

    def __init__(
        self, library: Library, store: PieceStore, connect: Callable[[str, Directory], Awaitable[Connection]]
    ) -> None:
        """`connect` dials a node by id with addresses of a directory; the connection is closed here."""
        self._library, self._store, self._connect = library, store, connect

    async def __call__(
        self, plan: RingPlan, index: int, *, sealed: Sealed, directory: Directory, tell: OnProgress
    ) -> Files:
        """Make the files of one stage of a plan, fetching what is missing.

        Raises:
            SplitError: the model cannot be cut there.
            ModelFileError: a piece is not what the holder promised.
            StorageError: the disk is full or cannot be written.
            UnreachableError: the holder does not answer.
        """
        stage = plan.stages[index]
        path = await asyncio.to_thread(self._library.path, plan.model_digest)
        if path is not None and (stage.first, stage.last) == (0, plan.n_layer):
            size = await asyncio.to_thread(path.stat)
            return Files(shard_paths=(path,), total_bytes=size.st_size)
        if path is not None:
            manifest = await asyncio.to_thread(self._library.manifest, plan.model_digest)
            await self._copy(path, manifest, stage.first, stage.last, tell=tell)
        else:
            async with await self._connect(plan.holder_id, directory) as connection:
                manifest = await self._fetch(connection, plan, index, sealed=sealed, tell=tell)
        return await asyncio.to_thread(self._assemble, manifest, stage.first, stage.last)

    def _assemble(self, manifest: Manifest, first: int, last: int) -> Files:
        shard = assemble(self._store, manifest, first, last)
        return Files(
            shard_paths=shard.paths,
            total_bytes=sum(piece.bytes for piece in pieces_for(manifest, first, last)),
            table_path=shard.table,
            table_scale=shard.table_scale,
            output_name=find_architecture(manifest.architecture).output_node,
            release=shard.close,
        )

    async def _copy(self, path: Path, manifest: Manifest, first: int, last: int, *, tell: OnProgress) -> None:
        """Take missing pieces out of this node's own model file."""
        missing = await asyncio.to_thread(self._store.missing, manifest, first, last)
        total, done = sum(piece.bytes for piece in missing), 0
        for piece in missing:
            await asyncio.to_thread(self._receive, path, manifest, piece)
            done += piece.bytes
            tell(done, total)

    def _receive(self, path: Path, manifest: Manifest, piece: PieceFacts) -> None:
        self._store.receive(manifest, piece, open_piece(path, manifest, piece.name))

    async def _fetch(
        self, connection: Connection, plan: RingPlan, index: int, *, sealed: Sealed, tell: OnProgress
    ) -> Manifest:
        headers = [ticket_header(sealed)]
        base = f"/peer/pieces/{plan.model_digest}"
        reply = await connection.request(
            "GET", f"{base}/manifest", headers, timeout_s=ANSWER_S, limit_bytes=MAX_MANIFEST_BYTES
        )
        if reply.status != 200:
            raise _refusal(reply.status, reply.body)
        try:
            manifest = msgspec.json.decode(reply.body, type=Manifest)
        except msgspec.MsgspecError as exc:
            raise ProtocolError(f"the list of pieces cannot be read: {exc}") from exc
        if (manifest.model_digest, manifest.n_layer) != (plan.model_digest, plan.n_layer):
            raise ModelFileError("the holder's list of pieces is of another model")
        stage = plan.stages[index]
        missing = await asyncio.to_thread(self._store.missing, manifest, stage.first, stage.last)
        total, done = sum(piece.bytes for piece in missing), 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            tell(done, total)

        for piece in missing:
            async with await connection.open("GET", f"{base}/{piece.name}", headers) as stream:
                await stream.end()
                await self._save(stream, manifest, piece, more=more)
        return manifest

    async def _save(
        self, stream: Stream, manifest: Manifest, piece: PieceFacts, *, more: Callable[[int], None]
    ) -> None:
        """Write one piece as it comes. The disk is worked on in threads."""
        status = await stream.response(ANSWER_S)
        if status != 200:
            async with asyncio.timeout(CHUNK_S):
                raise _refusal(status, await stream.body(MAX_MANIFEST_BYTES))
        incoming = await asyncio.to_thread(self._store.begin, manifest, piece)
        try:
            while data := await _gather(stream):
                await asyncio.to_thread(incoming.write, data)
                more(len(data))
            await asyncio.to_thread(incoming.finish)
        finally:
            await asyncio.to_thread(_leave, incoming)


async def _gather(stream: Stream) -> bytes:
    """The next bytes, about `WRITE_BYTES` of them; none at the end."""
    data = bytearray()
    try:
        while len(data) < WRITE_BYTES:
            async with asyncio.timeout(CHUNK_S):
                chunk = await stream.receive()
            if chunk is None:
                break
            data += chunk
    except TimeoutError as exc:
        raise UnreachableError(f"the holder of the model sent nothing for {CHUNK_S:.0f} s") from exc
    return bytes(data)


def _leave(incoming: IncomingPiece) -> None:
    incoming.__exit__(None, None, None)


def _refusal(status: int, body: bytes) -> SwarmError:
    try:
        report = decode_report(body)
    except ProtocolError:
        report = None
    if isinstance(report, Failed):
        return revive(report)
    return ProtocolError(f"the holder of the model refused a piece (HTTP {status})")
