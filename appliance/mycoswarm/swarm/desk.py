"""The two desks behind enrolment doors: the coordinator's for join tokens, an unclaimed node's for adoption."""

import asyncio
import logging
import time
from collections.abc import Callable

from mycoswarm.base.errors import EnrolmentError, SwarmError
from mycoswarm.swarm.admission import Admitter
from mycoswarm.swarm.adoption import ADOPTION_S, Adoptee, Adoption, OfferLimit, lost, refused
from mycoswarm.swarm.channel import WORD_S, Channel
from mycoswarm.swarm.enrolment import Enrolled, Grant, JoinClaim, JoinRequest, Offer, Reveal, Stored, take_up
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.registrar import Registrar

_log = logging.getLogger(__name__)


class TokenDesk:
    """Lets nodes with a join token in. Needed while a token is open."""

    def __init__(self, registrar: Registrar, identity: Identity, *, clock: Callable[[], float] = time.time) -> None:
        self._registrar = registrar
        self._identity = identity
        self._clock = clock

    def is_needed(self) -> bool:
        """Whether a token is unused and unexpired."""
        return self._registrar.tokens.open_until(self._clock()) is not None

    async def serve(self, channel: Channel) -> None:
        """Carry one admission through.

        Raises:
            SwarmError: the visitor was not let in, or went away.
        """
        admitter = Admitter(self._registrar, door_public=self._identity.key.public_der)
        await channel.send(admitter.proof(await channel.receive(JoinRequest)))
        claim = await channel.receive(JoinClaim)
        await channel.send(await asyncio.to_thread(admitter.grant, claim))
        try:
            await channel.receive(Stored)
        except EnrolmentError:
            await asyncio.to_thread(admitter.take_back)
            raise


class AdoptionDesk:
    """Takes offers of adoption to an unclaimed node, and shows them to its owner. Needed while unclaimed.

    `on_offer` hears of each offer whose code can be shown; `on_enrolled` of the one that was carried through.
    `addresses` tells where this node's peer listener is ("host:port"), for the roster.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        addresses: Callable[[], tuple[str, ...]] = tuple,
        on_offer: Callable[[Adoption], None] | None = None,
        on_enrolled: Callable[[Enrolled], None] | None = None,
    ) -> None:
        self._identity = identity
        self._addresses = addresses
        self._on_offer = on_offer
        self._on_enrolled = on_enrolled
        self._limit = OfferLimit()
        self._pending: list[Adoption] = []

    def is_needed(self) -> bool:
        """Whether this node is unclaimed."""
        return self._identity.membership is None

    def pending(self) -> tuple[Adoption, ...]:
        """The offers that wait for the owner."""
        return tuple(self._pending)

    async def serve(self, channel: Channel) -> None:
        """Carry one adoption through, if the owner confirms it here.

        Raises:
            SwarmError: it was not; the other side is told.
        """
        offer = await channel.receive(Offer)
        adoptee = Adoptee(self._identity, offer, addresses=self._addresses())
        self._limit.take(len(self._pending), time.monotonic())
        await channel.send(adoptee.reply)
        code = adoptee.reveal(await channel.receive(Reveal))
        adoption = Adoption(
            code=code, peer_id=adoptee.coordinator_id, peer_name=adoptee.name, swarm_id=adoptee.swarm_id
        )
        self._pending.append(adoption)
        if self._on_offer is not None:
            self._on_offer(adoption)
        _log.info("the coordinator %s (%s) offers adoption", adoptee.name, adoptee.coordinator_id)
        try:
            enrolled = await self._carry(channel, adoptee, adoption)
            adoption.end(enrolled.name)
        except SwarmError as exc:
            adoption.end(exc)
            raise
        finally:
            adoption.end(lost("the adoption was broken off"))
            self._pending.remove(adoption)
        for other in self._pending:
            other.refuse()
        if self._on_enrolled is not None:
            self._on_enrolled(enrolled)

    async def _carry(self, channel: Channel, adoptee: Adoptee, adoption: Adoption) -> Enrolled:
        """Wait for the owner here, then for the grant; the coordinator may call off at any time."""
        granting = asyncio.create_task(channel.receive(Grant, ADOPTION_S + WORD_S))
        deciding = asyncio.create_task(adoption.decided())
        try:
            await asyncio.wait((granting, deciding), timeout=ADOPTION_S, return_when=asyncio.FIRST_COMPLETED)
            if granting.done():
                granting.result()  # a refusal or a lost connection raises here
                raise EnrolmentError("a coordinator granted what the owner has not confirmed yet")
            if not deciding.done():
                raise lost("nobody confirmed the adoption on this machine in time")
            if not deciding.result():
                raise refused("on the node's screen")
            await channel.send(adoptee.agree())
            enrolled = adoptee.enrolled(await granting)
        finally:
            for task in (granting, deciding):
                task.cancel()
            await asyncio.gather(granting, deciding, return_exceptions=True)
        await asyncio.to_thread(take_up, self._identity, enrolled)
        await channel.send(Stored())
        return enrolled
