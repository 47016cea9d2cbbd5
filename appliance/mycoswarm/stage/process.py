"""The stage process: orders as JSON lines on stdin, reports as JSON lines on stdout, its log on stderr.

It lives as long as its stdin. A thread reads stdin all the time and ends the process by `os._exit` the moment it
closes, whatever llama.cpp is doing: nothing is lost by that, because a stage keeps nothing. On Linux the kernel is
asked to kill it too when its parent dies. Whatever a library prints goes to stderr: the pipe that carries reports is
not file descriptor 1 any more.

The egress guard is over it from its first line: it reaches this machine and, once it is told its ring, the stage after
it. What the guard refuses is reported.

Exit codes: see `CLOSED`, `FAILED`, `BROKEN`; anything else is llama.cpp's own end (-6 is its assert).
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, cast

from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import ProtocolError, StageError, SwarmError
from mycoswarm.stage.failure import describe
from mycoswarm.stage.lifetime import Stage
from mycoswarm.stage.parcel import Parcels
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.line import LineSplitter, decode_order, encode_line
from mycoswarm.wire.order import AnyOrder, Configure
from mycoswarm.wire.report import AnyReport, Barred, Pong

try:
    import uvloop

    from mycoswarm.stage.fence import FencedLoop
except ImportError:  # there is none for Windows
    uvloop = None  # type: ignore[assignment]  # the one use asks

CLOSED = 0  # stdin was closed: the wanted end
FAILED = 3  # the last report says why
BROKEN = 4  # a fault of ours; the traceback is in the log

FLUSH_S = 1.0
BARRED_S = 1.0  # how often the guard is asked what it refused
MAX_UNSENT_BYTES = 32 << 20  # a daemon that takes no reports is dead or frozen


_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_log = logging.getLogger(__name__)


def read_orders(fd: int, put: Callable[[AnyOrder | SwarmError], None], end: Callable[[], None]) -> None:
    """In a thread of its own: read stdin to its end."""
    splitter = LineSplitter()
    is_sound = True
    try:
        while data := os.read(fd, 1 << 16):
            try:
                for line in splitter.feed(data) if is_sound else ():
                    put(decode_order(line))
            except ProtocolError as exc:
                is_sound = False  # what follows has lost its place; only the end matters now
                put(exc)
    except OSError as exc:
        _log.info("stdin broke: %s", exc)
    except RuntimeError:
        _log.debug("an order came after the end")  # the event loop is closed
    end()


class _Mouth(asyncio.BaseProtocol):
    """Writes reports to the pipe, without ever waiting for its reader.

    Not at once but two turns of the event loop later: by then a head has sent its next step, and the daemon, which the
    write wakes, works while the ring does.
    """

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._written = asyncio.Event()
        self._written.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the pipe is there."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are no subclass of it
        self._transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        """asyncio: something is left to write."""
        self._written.clear()

    def resume_writing(self) -> None:
        """asyncio: all is written."""
        self._written.set()

    def say(self, report: AnyReport) -> None:
        """Write one report, soon."""
        self._lines.append(encode_line(report))
        if len(self._lines) == 1:
            self._loop.call_soon(self._loop.call_soon, self._write)

    def _write(self) -> None:
        assert self._transport is not None
        lines, self._lines = self._lines, []
        self._transport.write(b"".join(lines))
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            _log.error("the daemon takes no reports")
            os._exit(BROKEN)

    async def flush(self) -> None:
        """Wait until all is written, a moment at most."""
        self._write()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._written.wait()


async def run_stage(stdin: int, stdout: int, guard: Guard) -> int:
    """Serve orders from one file descriptor, report to another; returns the exit code."""
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(stdout, "wb", buffering=0)
    _, mouth = await loop.connect_write_pipe(_Mouth, pipe)
    orders: asyncio.Queue[AnyOrder | SwarmError] = asyncio.Queue()
    node_id: str | None = None

    def put(order: AnyOrder | SwarmError) -> None:
        nonlocal node_id
        if isinstance(order, Configure) and 0 <= order.index < len(order.plan.stages):
            node_id = order.plan.stages[order.index].node_id
        loop.call_soon_threadsafe(orders.put_nowait, order)

    threading.Thread(target=read_orders, args=(stdin, put, lambda: os._exit(CLOSED)), daemon=True).start()
    mouth.say(Pong())
    parcels = Parcels(mouth.say, loop.call_later, loop.time)

    def tell_barred() -> None:
        for each in guard.drain():
            _log.warning("the egress guard refused: %s %s (%d times)", each.kind, each.where, each.count)
            parcels.say(Barred(kind=each.kind, where=each.where, count=each.count))

    def watch() -> None:
        tell_barred()
        loop.call_later(BARRED_S, watch)

    watch()
    try:
        await Stage(orders, parcels.say, Worker(), guard=guard).run()
    except SwarmError as exc:
        _log.error("the stage ends: %s", exc.message)
        tell_barred()  # before the last report, after which nobody listens
        parcels.say(describe(exc, node_id=node_id))
        code = FAILED
    except Exception as exc:
        _log.exception("the stage broke")
        tell_barred()
        parcels.say(describe(StageError(f"the stage broke: {exc}"), node_id=node_id))
        code = BROKEN
    else:
        code = CLOSED
    await mouth.flush()
    return code


def main() -> NoReturn:
    """A stage as a process of its own."""
    live(install(Guard()))


def live(guard: Guard) -> NoReturn:
    """The whole life of a stage process, under a guard that is over it already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which closes our stdin
    _die_with_parent()
    _leave_no_dump()
    stdin, stdout = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    code = BROKEN
    try:
        code = _run(run_stage(stdin, stdout, guard))
    except Exception:
        _log.exception("the stage broke")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # llama.cpp may still be computing in its thread: nobody waits for it


def _run(work: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(work) if uvloop is None else int(uvloop.run(work, loop_factory=FencedLoop))


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. Linux alone; elsewhere stdin's end is the only sign."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _leave_no_dump() -> None:
    """When llama.cpp aborts, what people wrote must not end up in a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
