"""Visits to enrolment doors: a node's with a join token, a coordinator's to a node that its owner picked."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext

from mycoswarm.base.egress import Opening
from mycoswarm.base.errors import EnrolmentError, SwarmError, UnreachableError
from mycoswarm.swarm.address import interfaces, scoped
from mycoswarm.swarm.admission import Joiner
from mycoswarm.swarm.adoption import ADOPTION_S, Adopter, Adoption, lost, refused
from mycoswarm.swarm.channel import WORD_S, Channel, visit_context
from mycoswarm.swarm.dial import connect, numeric, parse_address
from mycoswarm.swarm.enrolment import MAX_LINE_BYTES, Agreed, Enrolled, Grant, JoinProof, Reply, Stored, take_up
from mycoswarm.swarm.identity import Identity, already_enrolled
from mycoswarm.swarm.key import fingerprint_of, node_id_of, public_of
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.token import JoinToken

_CONNECT_S = 5.0
_STAGGER_S = 0.1
_MAX_ADDRESSES = 32

_log = logging.getLogger(__name__)


async def join(
    token: JoinToken, identity: Identity, *, addresses: tuple[str, ...] = (), opening: Opening = nullcontext
) -> Enrolled:
    """Join the token's swarm. `addresses` are this node's peer listener ("host:port"), for the roster.

    `opening` opens the egress guard to the coordinator's addresses meanwhile.

    Raises:
        EnrolmentError: this node has a swarm, the coordinator is not the token's, or does not take the token.
        UnreachableError: the coordinator does not answer.
        ProtocolError: what answers does not speak our enrolment.
        StorageError: it cannot be written here; this node is unclaimed as before.
    """
    if identity.membership is not None:
        raise already_enrolled(identity.membership.swarm_id)
    async with _visit(identity, token.addresses, token.coordinator_id, opening) as (channel, public):
        try:
            joiner = Joiner(identity, token, door_public=public, addresses=addresses)
            await channel.send(joiner.request)
            await channel.send(joiner.claim(await channel.receive(JoinProof)))
            enrolled = joiner.enrolled(await channel.receive(Grant, 2 * WORD_S))
            await asyncio.to_thread(take_up, identity, enrolled)
        except SwarmError as exc:
            await channel.refuse(exc)
            raise
        with contextlib.suppress(UnreachableError):  # it is stored here; the coordinator only likes to know
            await channel.send(Stored())
    return enrolled


@asynccontextmanager
async def begin_adoption(
    registrar: Registrar,
    identity: Identity,
    *,
    node_id: str,
    addresses: Sequence[str],
    opening: Opening = nullcontext,
) -> AsyncIterator[Adoption]:
    """Offer adoption to the node that the owner picked; gives it once there is a code to show.

    Leaving the block calls off what has not ended. `addresses` are the node's enrolment door ("host:port"), to which
    `opening` opens the egress guard while they are dialled.

    Raises:
        EnrolmentError: another node answers, it has a swarm, or refuses.
        UnreachableError: it does not answer.
        ProtocolError: what answers does not speak our enrolment.
    """
    async with _visit(identity, addresses, node_id, opening) as (channel, public):
        try:
            adopter = Adopter(registrar, identity, node_id=node_id, door_public=public)
            await channel.send(adopter.offer)
            await channel.send(adopter.reveal(await channel.receive(Reply)))
        except SwarmError as exc:
            await channel.refuse(exc)
            raise
        adoption = Adoption(
            code=adopter.code, peer_id=node_id, peer_name=adopter.name, swarm_id=registrar.authority.swarm_id
        )
        carrying = asyncio.create_task(_carry(channel, adopter, adoption))
        try:
            yield adoption
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
            adoption.end(lost("the adoption was called off"))


async def _carry(channel: Channel, adopter: Adopter, adoption: Adoption) -> None:
    try:
        adoption.end(await _confirmed(channel, adopter, adoption))
    except SwarmError as exc:
        adoption.end(exc)
        await channel.refuse(exc)
    except asyncio.CancelledError:
        await channel.refuse(refused("by the coordinator"))
        raise
    except Exception:
        _log.exception("an adoption failed")
        adoption.end(lost("the adoption failed; the log says more"))


async def _confirmed(channel: Channel, adopter: Adopter, adoption: Adoption) -> str:
    """Wait for both owners, in whichever order, then take the node in; gives its name in the swarm."""
    agreeing = asyncio.create_task(channel.receive(Agreed, ADOPTION_S))
    deciding = asyncio.create_task(adoption.decided())
    waiting: set[asyncio.Task[object]] = {agreeing, deciding}
    try:
        async with asyncio.timeout(ADOPTION_S):
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a refusal or a lost connection raises here
                if deciding in done and not deciding.result():
                    raise refused("on the coordinator's screen")
    except TimeoutError as exc:
        raise lost("nobody confirmed the adoption on this machine in time") from exc
    finally:
        for task in (agreeing, deciding):
            task.cancel()
        await asyncio.gather(agreeing, deciding, return_exceptions=True)
    grant = await asyncio.to_thread(adopter.grant, agreeing.result())
    await channel.send(grant)
    try:
        await channel.receive(Stored, 2 * WORD_S)
    except EnrolmentError:
        await asyncio.to_thread(adopter.take_back)
        raise
    return adopter.name


@asynccontextmanager
async def _visit(
    identity: Identity, addresses: Sequence[str], node_id: str, opening: Opening
) -> AsyncIterator[tuple[Channel, bytes]]:
    """Reach the door of this node, wherever it answers first; gives the channel and the key it showed."""
    channel = await _reach(identity, addresses, lambda public: node_id_of(fingerprint_of(public)) == node_id, opening)
    try:
        assert channel.peer_der is not None  # _try let no other through
        yield channel, public_of(channel.peer_der)
    finally:
        await channel.close()


async def _reach(
    identity: Identity, addresses: Sequence[str], expected: Callable[[bytes], bool], opening: Opening
) -> Channel:
    """Race all addresses, staggered; the key decides. The losers are hung up on before this returns.

    Raises:
        UnreachableError: none led to the machine that is meant.
        InputError: one is no address.
    """
    context = await asyncio.to_thread(visit_context, identity)
    targets = scoped(addresses, interfaces())[:_MAX_ADDRESSES]
    errors: list[str] = []
    with opening(numeric(map(parse_address, targets))):
        attempts = [
            asyncio.create_task(_try(text, context, expected, delay_s=number * _STAGGER_S, opening=opening))
            for number, text in enumerate(targets)
        ]
        winner: Channel | None = None
        try:
            for next_done in asyncio.as_completed(attempts):
                try:
                    winner = await next_done
                    return winner
                except SwarmError as exc:
                    errors.append(exc.message)
        finally:
            for attempt in attempts:
                attempt.cancel()
            for result in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(result, Channel) and result is not winner:
                    await result.close()
    raise UnreachableError(
        f"the other machine's enrolment door was not reached ({'; '.join(errors) or 'no address is known'})",
        hint="Is it on and in the same network? A token that was used, or is too old, opens nothing: make a new one "
        "with `mycoswarm-node token`.",
    )


async def _try(
    text: str, context: ssl.SSLContext, expected: Callable[[bytes], bool], *, delay_s: float, opening: Opening
) -> Channel:
    await asyncio.sleep(delay_s)
    address = parse_address(text)
    try:
        async with asyncio.timeout(_CONNECT_S):
            sock = await connect(address, opening)
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=context, server_hostname="", limit=MAX_LINE_BYTES
            )
    except TimeoutError as exc:
        raise UnreachableError(f"{address}: no answer in {_CONNECT_S:g} s") from exc
    except (UnreachableError, OSError) as exc:
        raise UnreachableError(f"{address}: {getattr(exc, 'strerror', None) or exc}") from exc
    channel = Channel(reader, writer)
    try:
        if channel.peer_der is None or not expected(public_of(channel.peer_der)):
            raise UnreachableError(f"{address}: another machine answers")
    except SwarmError:
        await channel.close()
        raise
    return channel
