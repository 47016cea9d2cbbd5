"""The doctor's report: what protects this node, what it runs on, where it listens, and what is wrong with it.

One report, for the command line and for the dashboard. What stands in the whole swarm are its conditions; what the
doctor finds on this machine alone are findings, in the same words: what is wrong, and what to do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Any

from mycoswarm.base.units import GIB, format_bytes
from mycoswarm.daemon.home import Home
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.overview import list_rows
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.stage.crash import Crashes
from mycoswarm.swarm.condition import Condition

LOW_DISK_BYTES = GIB  # four times what a tool must leave free; see sandbox/jail.py


class Physician:
    """`level` tries the sandbox out, `workspaces` counts those that are kept (it blocks), `egress` tells of the guard,
    and `status` is what the node says of itself, its standing trouble with it."""

    def __init__(
        self,
        home: Home,
        *,
        level: Callable[[], Awaitable[SandboxLevel]],
        workspaces: Callable[[], int],
        egress: Callable[[], dict[str, Any]],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._home, self._level, self._workspaces = home, level, workspaces
        self._egress, self._status = egress, status

    async def report(self) -> dict[str, Any]:
        """All of it, as JSON. `machine`: pairs of a label and a value, None until the machine has been looked at."""
        level = await self._level()
        kept = await asyncio.to_thread(self._workspaces)
        machine = await asyncio.to_thread(self._home.machine.now)
        egress, node = self._egress(), self._status()
        found = findings(level, machine, guarded=egress["active"], crashed=self._crashed())
        return {
            "sandbox": {
                "level": level.name,
                "covers": list(level.covers),
                "lacks": list(level.lacks),
                "why": level.why,
                "workspaces": kept,
            },
            "egress": egress,
            "machine": None if machine is None else [list(row) for row in list_rows(machine)],
            "listens": {name: node[name] for name in ("console", "peer_port", "door_port")},
            "folder": str(self._home.folder),
            "findings": [{name: asdict(one)[name] for name in ("code", "message", "hint")} for one in found],
            "conditions": node["conditions"],
        }

    def _crashed(self) -> list[tuple[str, Crashes]]:
        """Models that are marked bad, each with its node where that is another."""
        names = {facts.digest: facts.name for facts in self._home.shelf.facts()}
        own = self._home.identity.node_id
        return [
            (names.get(model, model[:12]) + ("" if node == own else f" on node {node[:12]}"), crashes)
            for model, node, crashes in self._home.crashes.bad()
        ]


def findings(
    level: SandboxLevel, machine: Machine | None, *, guarded: bool, crashed: Iterable[tuple[str, Crashes]]
) -> tuple[Condition, ...]:
    """What is wrong here, with its cause and its cure. Pure and total."""
    found = []
    if not level.is_sandbox:
        found.append(
            Condition(
                "no_sandbox",
                f"tools that need a sandbox are refused on this node: {level.why or 'it has none'}",
                "Install bubblewrap (`apt install bubblewrap`) and start the node again; docs/tools.md has other ways.",
            )
        )
    if not guarded:
        found.append(
            Condition(
                "egress_unguarded",
                "the egress guard is off: nothing keeps this process from connecting anywhere",
                "Start the node again with `mycoswarm-node run`, which switches it on before anything else.",
            )
        )
    free = machine.disk.free_bytes if machine is not None else None
    if free is not None and free < LOW_DISK_BYTES:
        found.append(
            Condition(
                "disk_nearly_full",
                f"only {format_bytes(free)} are free where the data folder is",
                "Free some, or remove a model with `mycoswarm-node models remove`: with less, tools and pulls stop.",
            )
        )
    for name, crashes in crashed:
        words = crashes.last_words[-1] if crashes.last_words else "it left no word"
        found.append(
            Condition(
                "model_marked_bad",
                f"{name} crashed {crashes.count} times in a row and is not started any more; its last words: {words}",
                "Run it on another node, or start that node's daemon again to try it anew.",
            )
        )
    return tuple(found)
