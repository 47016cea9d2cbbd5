"""What long work tells as it goes, as JSON lines: `api/departure.py` sends them, `cli/call.py` reads them."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from mycoswarm.api.refusal import bug, error_body
from mycoswarm.base.errors import SwarmError

Event = TypeVar("Event")

log = logging.getLogger(__name__)


async def begun(source: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The same events, once the first has come: what goes wrong before it still has a status of its own.

    Raises:
        SwarmError: what the source raised instead of a first event.
    """
    try:
        first = await anext(source)
    except BaseException:
        await source.aclose()
        raise
    return _with(first, source)


async def _with(first: Event, source: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    async with aclosing(source):
        yield first
        async for event in source:
            yield event


async def feed(source: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    """The events as lines. An error is the last of them: the status line has gone out before."""
    try:
        async for event in source:
            yield line(event)
    except SwarmError as error:
        yield line(error_body(error))
    except Exception:
        log.exception("long work for the owner failed: a bug of ours")
        yield line(error_body(bug()))
    finally:
        await source.aclose()


def line(value: dict[str, Any]) -> bytes:
    """A JSON line. All signs but ASCII are escaped: rows that were altered may hold text that is not UTF-8."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
