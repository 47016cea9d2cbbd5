"""Nodes of a swarm in one test process: real peer servers on 127.0.0.1, real TLS, real stage processes."""

import asyncio
import hashlib
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil

from models import write_random_model
from mycoswarm.api.peer import PeerServices, peer_app
from mycoswarm.base.errors import SwarmError
from mycoswarm.catalog.depot import PieceStore
from mycoswarm.catalog.piece import Manifest, write_manifest
from mycoswarm.stage.delivery import Delivery
from mycoswarm.stage.host import HostServices
from mycoswarm.stage.ring import Ring
from mycoswarm.stage.supervisor import Launch, stage_environment
from mycoswarm.swarm.client import Connection
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.server import PeerServer, bind
from mycoswarm.swarm.tls import client_context, ephemeral_certificate, server_context
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Generation, Prompt, Sampling
from mycoswarm.wire.ticket import Sealed, Ticket, Warrant

APPLIANCE = Path(__file__).resolve().parent.parent / "appliance"
NAMES = ("coordinator", "a", "b", "c")
CERTIFICATES = {name: ephemeral_certificate(name) for name in (*NAMES, "stranger")}
TRUSTED = "".join(certificate for certificate, _ in CERTIFICATES.values())
WARRANT = Warrant(rule="all", receipt="d" * 64)
CONDITIONS = Conditions(n_ctx=512, n_ubatch=32, n_seq_max=4, n_threads=1)


@dataclass(frozen=True)
class Who:
    node_id: str
    role: str


@dataclass
class Library:
    """One model, on the node that holds it."""

    file: Path | None = None
    facts: Manifest | None = None

    def path(self, model_digest: str) -> Path | None:
        return self.file if self.facts is not None and self.facts.model_digest == model_digest else None

    def manifest(self, model_digest: str) -> Manifest:
        assert self.facts is not None
        return self.facts


@dataclass
class Node:
    name: str
    library: Library
    server: PeerServer
    services: PeerServices
    tickets: list[Ticket] = field(default_factory=list)
    refused: list[SwarmError] = field(default_factory=list)


class Swarm:
    """The nodes, and what a coordinator needs to open rings on them."""

    def __init__(self, model: Path, manifest: Manifest) -> None:
        self.model, self.manifest = model, manifest
        self.nodes: dict[str, Node] = {}
        self.addresses: dict[str, str] = {}

    def plan(self, *cuts: tuple[str, int], conditions: Conditions = CONDITIONS) -> RingPlan:
        """Stages by name and last layer: plan(("a", 3), ("b", 8))."""
        firsts = (0, *(last for _, last in cuts[:-1]))
        return RingPlan(
            ring_id=os.urandom(8).hex(),
            model_digest=self.manifest.model_digest,
            n_layer=self.manifest.n_layer,
            holder_id="a",
            stages=tuple(
                StagePlan(node_id=name, first=first, last=last)
                for first, (name, last) in zip(firsts, cuts, strict=True)
            ),
            conditions=conditions,
        )

    @property
    def directory(self) -> dict[str, tuple[str, ...]]:
        return {name: (address,) for name, address in self.addresses.items()}

    async def connect(self, node_id: str, *, as_name: str = "coordinator") -> Connection:
        return await dial_as(as_name, [self.addresses[node_id]])

    @asynccontextmanager
    async def ring(
        self, *cuts: tuple[str, int], conditions: Conditions = CONDITIONS, **how: object
    ) -> AsyncIterator[Ring]:
        ring = await Ring.open(
            self.plan(*cuts, conditions=conditions),
            connect=self.connect,
            seal=seal,
            swarm_id="swarm",
            warrant=WARRANT,
            directory=self.directory,
            **how,  # type: ignore[arg-type]  # lifetime_s and the like
        )
        async with ring:
            yield ring


def seal(body: bytes) -> bytes:
    return hashlib.sha256(b"secret" + body).digest()


def is_signed(sealed: Sealed) -> bool:
    return sealed.signature == seal(sealed.body)


async def dial_as(name: str, addresses: list[str]) -> Connection:
    context = client_context(*CERTIFICATES[name], trusted_pem=TRUSTED)
    return await dial(addresses, context, lambda der: True, 5)


def who(der: bytes) -> Who | None:
    for name in NAMES:
        if ssl.PEM_cert_to_DER_cert(CERTIFICATES[name][0]) == der:
            return Who(name, "coordinator" if name == "coordinator" else "worker")
    return None


def stage_launch(folder: Path) -> Launch:
    environment = stage_environment(os.environ) | {"PYTHONPATH": str(APPLIANCE)}
    return Launch((sys.executable, "-m", "mycoswarm.stage.process"), folder, environment)


@asynccontextmanager
async def swarm_of(folder: Path, *, n_layer: int = 6, model: Path | None = None) -> AsyncIterator[Swarm]:
    """Nodes a, b, c; a holds the model. Leaving it fails where a stage process stays behind."""
    before = {child.pid for child in stage_processes()}
    path = model or write_random_model(folder / "model.gguf", n_layer=n_layer, width=64, vocab=320)
    swarm = Swarm(path, write_manifest(path))
    async with AsyncExitStack() as stack:
        for name in ("a", "b", "c"):
            node = swarm.nodes[name] = await stack.enter_async_context(_node(name, folder, swarm))
            swarm.addresses[name] = f"127.0.0.1:{node.server.port}"
        yield swarm
    left = [child for child in stage_processes() if child.pid not in before]
    assert not left, f"processes stayed behind: {left}"


@asynccontextmanager
async def _node(name: str, folder: Path, swarm: Swarm) -> AsyncIterator[Node]:
    home = folder / name
    home.mkdir()
    library = Library(swarm.model, swarm.manifest) if name == "a" else Library()
    tickets: list[Ticket] = []
    refused: list[SwarmError] = []

    async def record(sealed: Sealed, ticket: Ticket) -> None:
        tickets.append(ticket)

    async def refuse(sealed: Sealed | None, why: SwarmError) -> None:
        refused.append(why)

    async def connect(node_id: str, directory: Mapping[str, tuple[str, ...]]) -> Connection:
        return await dial_as(name, list(directory[node_id]))

    async def card() -> bytes:
        return msgspec.json.encode({"node": name})

    host = HostServices(
        node_id=name,
        swarm_id="swarm",
        is_signed=is_signed,
        record=record,
        refuse=refuse,
        prepare=Delivery(library, PieceStore(home / "pieces"), connect),
        launch=stage_launch(home),
        addresses=lambda: ("127.0.0.1",),
        barred=lambda report: None,
        gpu=False,
    )
    services = PeerServices(who=who, host=host, library=library, card=card)
    context = server_context(*CERTIFICATES[name], trusted_pem=TRUSTED)
    async with PeerServer(cast(Any, peer_app(services)), context, bind(["127.0.0.1"], 0)) as server:
        yield Node(name, library, server, services, tickets, refused)


def generation(request_id: str, text: str = "w1 w3 w5 hello", **sampling: Any) -> Generation:
    options = {"temperature": 0.0, "max_tokens": 12, **sampling}
    return Generation(request_id=request_id, prompt=Prompt(text=text), sampling=msgspec.convert(options, Sampling))


async def answer(ring: Ring, wanted: Generation) -> tuple[list[int], Finished]:
    """All tokens of an answer, and its end."""
    tokens: list[int] = []
    async for report in ring.generate(wanted, WARRANT):
        if isinstance(report, Piece):
            tokens += report.token_ids
        if isinstance(report, Finished):
            return tokens, report
    raise AssertionError("the answer had no end")


def stage_processes() -> list[psutil.Process]:
    """The stage processes of this test process; a fleet's daemons are children of it, too, and their stages are not."""
    return [child for child in psutil.Process().children() if _is_stage(child)]


def _is_stage(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "mycoswarm.stage.process" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


async def until(holds: Callable[[], bool], limit_s: float = 10) -> None:
    """Poll until something holds."""
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)
