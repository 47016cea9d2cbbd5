"""The daemon's life: open the folder, build the node, build it anew when its role changes, stop on a signal."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mycoswarm.base.egress import Guard
from mycoswarm.base.footprint import give_back
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.barrier import Barrier
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.node import Node
from mycoswarm.daemon.standing import read_standing
from mycoswarm.swarm.place import place_of

log = logging.getLogger(__name__)


def serve(settings: Settings, ready: Callable[[Node], None], guard: Guard, *, with_stdin: bool = False) -> None:
    """Run a node until SIGINT or SIGTERM, or `with_stdin` until that closes. `ready` is called each time it serves.

    Raises:
        SetupError: a port or the folder is taken.
        StorageError: the folder cannot be used.
    """
    configure_log(settings.log_level)
    with open_home(settings) as home:
        give_back()
        barrier = Barrier(Path(settings.border) if settings.border else None)
        place = partial(place_of, named=settings.lan)
        border = Border(guard, named=settings.peers, place=place, barrier=barrier)
        asyncio.run(_serve(home, ready, border, with_stdin=with_stdin))


def configure_log(level: str) -> None:
    """Send the log to stderr: one line each, with time, level and room."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for noisy in ("uvicorn", "asyncio", "zeroconf", "mcp", "sse_starlette", "opentelemetry"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for repeating in ("client", "mcp.client"):  # they log what MCP servers say; we word it ourselves, and bound it
        logging.getLogger(repeating).setLevel(logging.CRITICAL)


async def _serve(home: Home, ready: Callable[[Node], None], border: Border, *, with_stdin: bool) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    changed = asyncio.Event()

    def stop() -> None:
        stopping.set()
        changed.set()

    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stop)
    if with_stdin:
        threading.Thread(target=_follow_stdin, args=(lambda: loop.call_soon_threadsafe(stop),), daemon=True).start()
    while not stopping.is_set():
        changed.clear()
        standing = read_standing(home.folder, home.identity)
        async with Node(home, standing, changed.set, border) as node:
            log.info("node %s (%s) serves as %s", home.identity.name, home.identity.node_id, standing.role)
            ready(node)
            give_back()
            if not stopping.is_set():
                await changed.wait()
    log.info("node %s stops", home.identity.name)


def _follow_stdin(stop: Callable[[], object]) -> None:
    """Wait for the end of stdin, then stop: whoever started us is gone."""
    with contextlib.suppress(OSError):  # a terminal that is gone reads as an error
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended before
        stop()
