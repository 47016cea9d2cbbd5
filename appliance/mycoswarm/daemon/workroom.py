"""The node's tools, joined: the workshop that runs them here and, where this node decides, the toolbox over all."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mycoswarm.agents.porter import Carry, Reach
from mycoswarm.agents.toolbox import Errand, Finding, Toolbox, ToolServices
from mycoswarm.api.explanation import explanation_of
from mycoswarm.api.peer import Caller
from mycoswarm.api.tooling import Routes, ToolDesk, ToolStream, stream_routes, tool_routes
from mycoswarm.base.errors import InputError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.broker import Broker
from mycoswarm.daemon.cabinet import rehearsal_of
from mycoswarm.daemon.courier import Courier
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.notary import Notary
from mycoswarm.daemon.physician import Physician
from mycoswarm.daemon.rehearsal import Rehearsal
from mycoswarm.daemon.seeker import with_search
from mycoswarm.daemon.standing import Standing
from mycoswarm.external.target import Passage
from mycoswarm.routing.reach import TOOL
from mycoswarm.routing.snapshot import Narrowing, SwarmState
from mycoswarm.sandbox.jail import Errand as JailErrand
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.toolset import TOOLS
from mycoswarm.sandbox.workshop import Workshop, WorkshopServices
from mycoswarm.servers.definition import Definition
from mycoswarm.servers.hostel import USUAL, Hostel
from mycoswarm.servers.ware import Ware
from mycoswarm.store.apikey import Key


class Workroom:
    """One node's tools under one standing."""

    def __init__(
        self,
        home: Home,
        standing: Standing,
        notary: Notary,
        border: Border,
        *,
        members: Callable[[], Iterable[str]],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        """`members`: where nodes of the swarm may answer, "host:port". `status`: what the node says of itself."""
        self._home, self._standing, self._notary, self._border = home, standing, notary, border
        self._hostel = Hostel(Passage(permit=border.outward("server"), place=border.place))
        self.workshop = Workshop(
            WorkshopServices(
                node_id=home.identity.node_id,
                swarm_id=standing.swarm_id,
                folder=home.folder,
                is_signed=lambda sealed: standing.is_signed(sealed.body, sealed.signature),
                record=notary.record_tool,
                refuse=notary.refuse,
                reach=Courier(border.outward, border.place, members),
                servers=self._hostel,
            )
        )
        self._physician = Physician(
            home,
            level=self._level,
            workspaces=self.workshop.workspaces.count,
            egress=border.shown,
            status=status,
        )

    def peer_routes(self, who: Callable[[bytes], Caller | None]) -> Routes:
        """For the peer listener."""
        return stream_routes(ToolStream(self.workshop, who, self._notary.refuse))

    def owner_routes(self, toolbox: Toolbox | None, admit: Callable[[Key | None], None] = lambda key: None) -> Routes:
        """For the owner; `toolbox` None on a worker. `admit` counts a call against its key's limits."""
        new_id = partial(secrets.token_hex, 8)
        return tool_routes(ToolDesk(doctor=self._physician.report, toolbox=toolbox, new_id=new_id, admit=admit))

    async def look(self, definition: Definition) -> Mapping[str, Ware]:
        """Have an MCP server tell its tools: in this node's sandbox, in a folder for that alone, or over HTTP.

        Raises:
            SwarmError: it does not.
        """
        jail, workspaces = await self.workshop.jail(), self.workshop.workspaces
        workspace_id = f"look-{secrets.token_hex(8)}"
        workspace, user_id = await asyncio.to_thread(workspaces.open, workspace_id)
        name = f"the MCP server {definition.server}"
        try:
            errand = JailErrand(tool=name, arguments="", workspace=workspace, within_s=USUAL.look_s, user_id=user_id)
            return await self._hostel.listing(definition, errand, jail)
        finally:
            await asyncio.to_thread(workspaces.release, workspace_id)

    async def close(self) -> None:
        """End all that stays in the sandbox."""
        await self._hostel.close()

    def toolbox(
        self,
        around: Surroundings,
        approvals: Approvals,
        reach: Reach,
        *,
        broker: Broker,
        here: Mapping[str, Callable[[dict[str, Any], Errand], Awaitable[Finding]]],
    ) -> Toolbox:
        """The tools of the whole swarm, where this node decides: by what its chat decides with. `here`: tools of the
        coordinator's own, beside those that are known here; `broker` has those of MCP servers."""
        assert self._standing.sign is not None  # who decides signs

        def swarm() -> SwarmState:
            return around.swarm(None)

        async def nodes(given: Mapping[str, Any], errand: Errand) -> Finding:
            return Finding("\n".join(f"{node.name}: {node.trouble or 'ready'}" for node in swarm().nodes))

        async def explain(given: Mapping[str, Any], errand: Errand) -> Finding:
            return Finding(await _explained(rehearsal_of(around), given, errand.asker))

        return Toolbox(
            ToolServices(
                tools=lambda: {**with_search(TOOLS, self._home.finder), **broker.tools()},
                swarm=swarm,
                rules=around.rules,
                note=self._notary.note,
                approvals=approvals,
                carry=Carry(reach=reach, sign=self._standing.sign, swarm_id=self._standing.swarm_id),
                here={"list_nodes": nodes, "explain_route": explain, **here},
                own_name=lambda: self._home.identity.name,
                is_known=around.is_known,
                ended=broker.ended,
            )
        )

    async def _level(self) -> SandboxLevel:
        return (await self.workshop.jail()).level


async def _explained(rehearsal: Rehearsal, given: Mapping[str, Any], asker: Asker) -> str:
    """Where a request of this asker could run, in words for a model."""
    task = given.get("task", "chat")
    if "model" not in given and not task.startswith(TOOL):
        raise InputError("explain_route: 'model' is missing", hint="Only tools need none.", code="bad_arguments")
    request: dict[str, Any] = {
        "model": given.get("model", "none"),
        "task": task,
        "key": asker.key_name,
        "user": asker.user,
        "labels": sorted(asker.labels),
        "added": sorted(asker.added),
        "client": asker.client or "",
    }
    told = explanation_of(await rehearsal.explain(request, Narrowing()))
    lines = [f"{'allowed' if told['allowed'] else 'refused'} by {told['rule'] or 'no rule'}: {told['reason']}"]
    lines += [f"{node['name']}: {node['reason']}" for node in told["nodes"]]
    return "\n".join(lines)
