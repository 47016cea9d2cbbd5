"""The enrolment channel: lines over TLS 1.3 between a door and its visitor. It shows a key and trusts none."""

import asyncio
import contextlib
import ssl
from typing import TypeVar

from mycoswarm.base.errors import EnrolmentError, ProtocolError, SwarmError, UnreachableError
from mycoswarm.swarm.enrolment import MAX_LINE_BYTES, Message, Refusal, decode_message, encode_message
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.tls import client_context, server_context

WORD_S = 10.0  # for one word of the other side, where no owner has to be waited for
_CLOSE_S = 1.0
_PROTOCOL = "mycoswarm-enrolment/1"

Word = TypeVar("Word", bound=Message)


class Channel:
    """One TLS connection that carries words."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def peer_der(self) -> bytes | None:
        """The listener's certificate, on the side that dialled; None on the listener's side."""
        tls = self._writer.get_extra_info("ssl_object")
        der: bytes | None = tls.getpeercert(True) if tls is not None else None
        return der

    async def send(self, message: Message) -> None:
        """Send one word.

        Raises:
            UnreachableError: the other side is gone, or takes nothing.
        """
        try:
            self._writer.write(encode_message(message))
            async with asyncio.timeout(WORD_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as exc:
            raise UnreachableError("the other machine went away during enrolment") from exc

    async def receive(self, kind: type[Word], timeout_s: float = WORD_S) -> Word:
        """Wait for one word of this kind.

        Raises:
            UnreachableError: the other side is gone, or silent for too long.
            EnrolmentError: it refuses; the message is its own.
            ProtocolError: another word, or none of ours.
        """
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._reader.readline()
        except TimeoutError as exc:
            raise UnreachableError(f"the other machine said nothing for {timeout_s:g} s during enrolment") from exc
        except OSError as exc:
            raise UnreachableError("the other machine went away during enrolment") from exc
        except ValueError as exc:
            raise ProtocolError(f"a word of more than {MAX_LINE_BYTES} bytes") from exc
        if not line.endswith(b"\n"):
            raise UnreachableError("the other machine went away during enrolment")
        message = decode_message(line)
        if isinstance(message, Refusal):
            raise EnrolmentError(message.message[:500], hint=message.hint[:500], code=message.code[:50])
        if not isinstance(message, kind):
            raise ProtocolError(f"{type(message).__name__} came where {kind.__name__} belongs")
        return message

    async def refuse(self, error: SwarmError) -> None:
        """Say no, as far as that can still be said."""
        with contextlib.suppress(UnreachableError):
            await self.send(Refusal(code=error.code, message=error.message, hint=error.hint))

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.wait_closed()


def door_context(identity: Identity) -> ssl.SSLContext:
    """TLS of a door: shows this node's self-signed key, and asks for none.

    Raises:
        TrustError: the key cannot be used.
    """
    return _opened(server_context(identity.self_signed_pem, identity.key.pem.decode(), identity.self_signed_pem))


def visit_context(identity: Identity) -> ssl.SSLContext:
    """TLS of a visitor: takes any certificate; whose key it is gets compared and proven afterwards.

    Raises:
        TrustError: the key cannot be used.
    """
    return _opened(client_context(identity.self_signed_pem, identity.key.pem.decode(), identity.self_signed_pem))


def _opened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([_PROTOCOL])
    return context
