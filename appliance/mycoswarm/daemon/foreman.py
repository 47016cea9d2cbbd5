"""Agents on the node that decides: their files, runs and models, joined with tools and the owner's routes."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from mycoswarm.agents.crew import Crew
from mycoswarm.agents.examiner import Examiner, put_to
from mycoswarm.agents.merit import Merits
from mycoswarm.agents.party import Parts
from mycoswarm.agents.persona import Profile
from mycoswarm.agents.spawn import SPAWN
from mycoswarm.agents.team import Team
from mycoswarm.agents.toolbox import Toolbox
from mycoswarm.agents.vigil import KEY_REVOKED, Means, Vigil
from mycoswarm.agents.voice import Voice
from mycoswarm.api.employer import EmployerServices
from mycoswarm.base.errors import ApiKeyError, NotFoundError
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker
from mycoswarm.chat.life import Chat
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.routing.snapshot import SwarmState
from mycoswarm.store.agenda import ScheduleRow
from mycoswarm.store.apikey import Key

FOLDER_NAME = "agents"


class Foreman:
    """Has agents work; `close` stops all runs."""

    def __init__(self, home: Home, chat: Chat, approvals: Approvals, toolbox: Toolbox, outlook: Outlook) -> None:
        self._home, self._chat, self._toolbox, self._outlook = home, chat, toolbox, outlook
        self._team, voice = Team(home.folder / FOLDER_NAME), Voice(chat)
        self._merits = Merits(chat, outlook.find, home.diplomas.find)
        self._examiner = Examiner(home.diplomas.keep, wall_clock=time.time)
        self._crew = Crew(
            Parts(toolbox=toolbox, speak=self._merits.watch(voice), profile=self._profile, left=voice.left),
            approvals=approvals,
            history=home.runs if home.settings.run_history else None,
            new_id=lambda: secrets.token_hex(6),
            wall_clock=time.time,
        )

    def services(self, admit: Callable[[Key | None], None]) -> EmployerServices:
        """What the owner's routes for agents and runs need."""
        return EmployerServices(
            team=self._team,
            crew=self._crew,
            runs=self._home.runs,
            specs=lambda: (*self._toolbox.specs(), SPAWN),
            admit=admit,
            certificate=self._merits.shown,
        )

    def certify(self, name: str, asker: Asker) -> AsyncGenerator[dict[str, Any], None]:
        """Examine a model, and tell of it as `Examiner.hold` does."""
        try:
            model = self._outlook.find(name).name
        except NotFoundError:
            model = name  # an endpoint may have it; the first case shows
        return self._examiner.hold(model, put_to(self._chat, model, asker, f"exam-{secrets.token_hex(6)}"))

    def vigil(self, admit: Callable[[Key | None], None], swarm: Callable[[], SwarmState]) -> Vigil:
        """The schedules. They wait at the start until no node of the swarm is still unknown: a run that was missed
        while the daemon was down would else find no node that is fit for it.

        Raises:
            StorageError: they could not be read.
        """

        def count(row: ScheduleRow) -> None:
            if row.key_name is None:
                return
            key = self._home.keys.find(row.key_name)
            if key is None or key.made_at != row.key_made_at:  # another of the same name did not make it
                raise ApiKeyError(f"the key {row.key_name}, which made this schedule, was revoked", code=KEY_REVOKED)
            admit(key)

        return Vigil(
            Means(
                agenda=self._home.agenda,
                crew=self._crew,
                profile=self._profile,
                admit=count,
                is_ready=lambda: _is_ready(swarm()),
                new_id=lambda: secrets.token_hex(4),
                wall_clock=time.time,
            )
        )

    async def close(self) -> None:
        """Stop all runs; each is told so."""
        await self._crew.close()

    async def _profile(self, name: str) -> Profile:
        return await asyncio.to_thread(self._team.profile, name)


def _is_ready(swarm: SwarmState) -> bool:
    """Whether each node has shown its machine. Its speed may stay unknown: on a GPU, until an answer ran there."""
    return all(node.trouble is None and node.free_bytes is not None and "class" in node.facts for node in swarm.nodes)
