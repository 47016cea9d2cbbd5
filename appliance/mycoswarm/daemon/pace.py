"""How fast each node streams weights: this machine's own measurement, and what real answers showed, kept on disk."""

import asyncio
import logging
import time
from collections.abc import Mapping

from mycoswarm.base.errors import StorageError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.gauge import graded_bytes_per_s
from mycoswarm.daemon.home import Home
from mycoswarm.wire.plan import RingPlan
from mycoswarm.wire.report import Finished

log = logging.getLogger(__name__)


class Pace:
    """Speeds in bytes per second by node id. Methods run in one event loop."""

    def __init__(self, home: Home) -> None:
        """Read what was kept.

        Raises:
            StorageError: it could not be read.
        """
        self._home = home
        self._speeds = {node_id: speed for node_id, (speed, _) in home.speeds.known().items()}
        # Our own benchmark comes with the card; only real answers overrule it.
        self._speeds.pop(home.identity.node_id, None)
        self._keeping: set[asyncio.Task[None]] = set()

    def known(self) -> Mapping[str, float]:
        """What answers showed."""
        return self._speeds

    def grade(self, plan: RingPlan, facts: ModelFacts, finished: Finished) -> None:
        """Let what an answer showed of a node's speed count from now on, and keep it without waiting."""
        speed, node_id = graded_bytes_per_s(plan, facts, finished), plan.head.node_id
        if speed is not None:
            self._speeds[node_id] = speed
            keeping = asyncio.get_running_loop().create_task(self._keep(node_id, speed), name="keep a speed")
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)

    async def look(self) -> None:
        """Read this machine and, where it is due, measure its speed. Without either the node still serves."""
        try:
            await self._home.machine.look(self._note_own)
        except StorageError as error:
            log.error("the measured speed of this machine was not kept: %s", error.message)
        except Exception:
            log.exception("this machine could not be looked at: a bug of ours")

    async def finish(self) -> None:
        """Wait until all is kept."""
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def _note_own(self, bytes_per_s: float, now: float) -> None:
        self._home.speeds.note(self._home.identity.node_id, bytes_per_s, now)

    async def _keep(self, node_id: str, bytes_per_s: float) -> None:
        try:
            await asyncio.to_thread(self._home.speeds.note, node_id, bytes_per_s, time.time())
        except StorageError as error:
            log.error("the speed of node %s was not kept: %s", node_id, error.message)
