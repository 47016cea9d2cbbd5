"""Pulling the plug: the coordinator is killed twenty times amid rule edits and requests, and loses nothing."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.fleet import Fleet, Member
from mycoswarm.cli.talk import Reply, stream_chat

pytestmark = pytest.mark.slow

ROUNDS, HOUSEHOLDS = 20, 2
AT_ONCE = 200  # edits and requests under way in one round
HANDS = 24


class Household:
    """Many hands that edit rules and ask, and what of it was acknowledged. Rules' names are never used again."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.standing: dict[str, str] = {}  # acknowledged rules and their notes
        self.gone: set[str] = set()  # rules whose removal was acknowledged
        self.unsure: set[str] = set()  # rules of edits that nobody answered any more
        self.receipts: list[str] = []
        self.acknowledged = 0

    def work(self, call: Call, round_number: int, number: int) -> None:
        """One edit or request. What the daemon does not answer any more may have happened or not."""
        kind = number % 5
        name = f"r{round_number}-{number}"
        try:
            if kind == 4:
                self._ask(call)
            elif kind == 3 and (victim := self._some()) is not None:
                self._remove(call, victim)
            elif kind == 2 and (edited := self._some()) is not None:
                self._edit(call, edited, f"edited by {name}")
            else:
                self._add(call, name)
        except SwarmError as error:
            assert error.code in ("unreachable", "ring_failed", "daemon_stopped"), (error.code, error.message)

    def _some(self) -> str | None:
        """A rule that nobody else edits in this round."""
        with self.lock:
            free = sorted(set(self.standing) - self.unsure)
            if not free:
                return None
            name = self.chance.choice(free)
            self.unsure.add(name)  # until it is answered
            return name

    def _add(self, call: Call, name: str) -> None:
        with self.lock:
            self.unsure.add(name)
        rule = {"name": name, "when": {"model": f"{name}-*"}, "then": {"do": "run"}, "note": "new"}
        call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
        self._sure(name, "new")

    def _edit(self, call: Call, name: str, note: str) -> None:
        rule = {"name": name, "when": {"model": f"{name}-*"}, "then": {"do": "run"}, "note": note}
        call.ask("PUT", f"/api/rules/{quote(name)}", {"rule": rule})
        self._sure(name, note)

    def _remove(self, call: Call, name: str) -> None:
        call.ask("DELETE", f"/api/rules/{quote(name)}", {})
        with self.lock:
            self.unsure.discard(name)
            del self.standing[name]
            self.gone.add(name)
            self.acknowledged += 1

    def _sure(self, name: str, note: str) -> None:
        with self.lock:
            self.unsure.discard(name)
            self.standing[name] = note
            self.acknowledged += 1

    def _ask(self, call: Call) -> None:
        reply = Reply()
        body = {"model": "spore", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 2}
        for _ in stream_chat(call, body, reply):
            pass
        with self.lock:
            self.receipts.append(reply.mycoswarm["receipt"])

    def look(self, call: Call) -> None:
        """Hold what the daemon says now against what was acknowledged; what was unsure is settled by it."""
        told = {rule["name"]: rule.get("note", "") for rule in call.ask("GET", "/api/rules")["rules"]}
        for name, note in self.standing.items():
            if name not in self.unsure:
                assert told.get(name) == note, f"the acknowledged rule {name} is lost"
        assert not self.gone & set(told), "an acknowledged removal is lost"
        for name in self.unsure:
            if name in told:
                self.standing[name] = told[name]
            else:
                self.standing.pop(name, None)
        self.unsure.clear()
        for receipt in self.receipts:
            assert call.ask("GET", f"/api/ledger/{receipt}")["rows"], f"the request {receipt} has left no row"
        self.receipts.clear()


def verified(call: Call) -> None:
    last = json.loads(list(call.stream("POST", "/api/ledger/verify", {}))[-1])
    assert "error" not in last and not last.get("findings"), last


def pull(member: Member, household: Household, round_number: int) -> None:
    """Kill the daemon in the midst of the work."""
    before = household.acknowledged
    with ThreadPoolExecutor(HANDS) as pool:
        working = [pool.submit(household.work, member.call, round_number, number) for number in range(AT_ONCE)]
        wanted = before + household.chance.randint(5, 60)
        deadline = time.monotonic() + 20
        while household.acknowledged < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        member.process.kill()
        for one in working:
            one.result(60)
    assert household.acknowledged > before, "nothing was under way"
    assert any(name for name in household.unsure), "the plug was pulled too late to disturb anything"


def outlive(seed: int, rounds: int) -> Household:
    """Pull the plug of one coordinator again and again, and look each time it is back."""
    household = Household(seed)
    with Fleet(workers=0) as fleet:
        fleet.wait_ready()
        for round_number in range(rounds):
            pull(fleet.coordinator, household, round_number)
            member = fleet.restart(fleet.coordinator)
            fleet.wait_ready()
            household.look(member.call)
            verified(member.call)
    return household


def test_twenty_pulled_plugs_lose_no_acknowledged_edit_and_the_ledger_verifies() -> None:
    with ThreadPoolExecutor(HOUSEHOLDS) as pool:  # at the same time: most of a round is waiting for a daemon's start
        ends = [pool.submit(outlive, 7 + number, ROUNDS // HOUSEHOLDS) for number in range(HOUSEHOLDS)]
        for one in ends:
            assert one.result().acknowledged > ROUNDS // HOUSEHOLDS * 5
