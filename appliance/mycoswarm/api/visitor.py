"""Who asks, as the console's door found out: the key, its owner's labels, the address, and what the request adds; and
what they send."""

import asyncio
import re

from starlette.requests import Request

from mycoswarm.api.question import Envelope, read_labels
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker
from mycoswarm.store.apikey import Key

BODY_S = 60.0  # for a whole body to arrive
HERE = "127.0.0.1"  # where the owner's socket is
MAX_VIA = 400  # characters: a request that has passed two dozen daemons goes no further anyway
_RUN = re.compile(r"[0-9a-zA-Z-]{1,64}")  # of a daemon, as swarm/card.py names it


def envelope_of(request: Request, request_id: str) -> Envelope:
    """What comes beside a request's body.

    Raises:
        InputError: a label that is none, or a list of daemons that no daemon wrote.
    """
    key: Key | None = request.scope["state"]["key"]
    asker = Asker(
        key_name=key.name if key else None,
        issued_at=key.made_at if key else None,
        user=key.user if key else None,
        labels=frozenset(key.labels if key else ()),
        added=read_labels(",".join(request.headers.getlist("x-mycoswarm-labels"))),
        client=request.client.host if request.client else HERE,
        via=_read_via(",".join(request.headers.getlist("x-mycoswarm-via"))),
    )
    route = "; ".join(request.headers.getlist("x-mycoswarm-route"))
    return Envelope(request_id=request_id, asker=asker, route=route)


async def whole_body(request: Request, limit_s: float) -> bytes:
    """The request's body.

    Raises:
        InputError: it did not arrive in time.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await request.body()
    except TimeoutError as exc:
        raise InputError(f"the request's body did not arrive in {limit_s:g} s", code="timeout") from exc


def _read_via(text: str) -> tuple[str, ...]:
    """The runs of daemons that a request has passed. It is sent on as a header, so nothing else may stand in it."""
    runs = tuple(filter(None, (part.strip() for part in text.split(","))))
    if len(text) > MAX_VIA or not all(map(_RUN.fullmatch, runs)):
        raise InputError("X-Mycoswarm-Via is no list of daemons", hint="Leave it out: only daemons send it.")
    return runs
