"""`rules replay`: how the last requests in this node's ledger would move under other rules. Sends nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from mycoswarm.routing.replay import Change, Move, Past, replayed
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, SwarmState
from mycoswarm.store.chain import Row
from mycoswarm.store.ledger import Ledger
from mycoswarm.store.record import DECISION
from mycoswarm.swarm.place import Place

STEP_ROWS = 500
MAX_OLDER = 500  # in a row; fewer, and the clock may have been wrong for a while, as on a board without one
MAX_SKIPPED = 10_000  # rows that are no first try, or were altered, for one question

_WHY: Mapping[Change, str] = {
    "unmoved": "it may still go there",
    "rule": "another rule would decide it",
    "elsewhere": "it may still go there, but another place comes first",
    "barred": "it could not go there any more",
    "opened": "the rules refused it, and would let it through",
    "asked": "you would be asked first",
}


class _Route(msgspec.Struct):
    mode: Literal["any", "solo", "split"] = "any"
    stages: int | None = None
    nodes: tuple[str, ...] = ()
    within: Place | None = None


class _Asked(msgspec.Struct):
    model: str
    model_digest: str | None
    task: str
    characters: int
    key: str | None
    user: str | None
    labels: frozenset[str]
    added: frozenset[str]
    client: str | None
    at: float
    route: _Route


class _Node(msgspec.Struct):
    id: str
    name: str


class _Decision(msgspec.Struct):
    """A decision's row as chat/account.py writes it, as far as it counts here."""

    attempt: int
    asked: _Asked
    outcome: Literal["run", "external", "tool", "refused"]
    rule: str | None
    action: int = 0
    code: str | None = None
    endpoint: str | None = None
    nodes: tuple[_Node, ...] = ()
    approved_by: str | None = None


class Hindsight:
    """Looks back at one ledger. Blocking: call it in a thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def replay(self, last: int, rules: RuleSet, swarm: SwarmState, since: float | None = None) -> dict[str, Any]:
        """Hold the first decision on each of the last requests against these rules, with the nodes and endpoints of
        now. `since`: none that is older, in seconds since 1970. Gives `requests` (how many), `since`, `is_cut` (there
        were more than could be looked at), `same`, `moved` (each with request_id, at, model, was, now, change, why)
        and `counts` by kind of change.

        Raises:
            StorageError: the ledger could not be read.
        """
        counts: Counter[str] = Counter()
        moved, is_cut = [], False
        for found in self._decisions(since):
            if found is None or counts.total() >= last:
                is_cut = True
                break
            row, decision = found
            move = replayed(_past(decision), rules, swarm)
            counts[move.change] += 1
            if move.change != "unmoved":
                moved.append(_shown(row, decision, move))
        same = counts["unmoved"]
        told = {"requests": counts.total(), "since": since, "is_cut": is_cut}
        return {**told, "same": same, "moved": moved, "counts": dict(counts)}

    def _decisions(self, since: float | None) -> Iterator[tuple[Row, _Decision] | None]:
        """The decisions on a first try, newest first, None where it was given up; rows that were altered are left to
        `ledger verify`."""
        before: int | None = None
        skipped = older = 0
        while True:
            page = self._ledger.recent((DECISION,), before=before, limit=STEP_ROWS)
            for seq, _ in page:
                before, row = seq, self._ledger.row(seq)
                decision = None if row is None else _read(row)
                if row is not None and since is not None:
                    older = older + 1 if row.at < since else 0
                    if older >= MAX_OLDER:
                        return
                    if older:
                        continue
                if row is None or decision is None or decision.attempt != 1:
                    skipped += 1
                    continue
                yield row, decision
            if len(page) < STEP_ROWS:
                return
            if skipped > MAX_SKIPPED:
                yield None
                return


def _read(row: Row) -> _Decision | None:
    try:
        return msgspec.json.decode(row.body, type=_Decision)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _past(decision: _Decision) -> Past:
    asked, route = decision.asked, decision.asked.route
    went = tuple(node.id for node in decision.nodes) if decision.outcome in ("run", "tool") else ()
    return Past(
        asked=Asked(
            model=asked.model,
            model_digest=asked.model_digest,
            task=asked.task,
            prompt_characters=asked.characters,
            narrowing=Narrowing(mode=route.mode, stages=route.stages, nodes=route.nodes, within=route.within),
            key_name=asked.key,
            user=asked.user,
            labels=asked.labels,
            added=asked.added,
            client=asked.client,
            at=asked.at,
        ),
        rule=decision.rule,
        action=decision.action,
        went=(decision.endpoint,) if decision.outcome == "external" and decision.endpoint is not None else went,
        refused=(decision.code or "refused_by_rules") if decision.outcome == "refused" else None,
        was_asked=decision.approved_by is not None,
    )


def _shown(row: Row, decision: _Decision, move: Move) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "at": row.at,
        "model": decision.asked.model,
        "was": _was(decision),
        "now": _now(move),
        "change": move.change,
        "why": _why(move),
    }


def _was(decision: _Decision) -> str:
    if decision.outcome == "refused":
        return f"refused ({decision.code})"
    return decision.endpoint or " + ".join(node.name for node in decision.nodes)


def _now(move: Move) -> str:
    if move.reach.outlet in ("deny", "refuse"):
        return "denied" if move.reach.outlet == "deny" else "refused"
    # Where it may go, in the order of the rule's actions; which of them it would be hangs on memory and on who is up.
    names = ", ".join(spot.names[0] for spot in move.reach.first) or "nowhere now"
    return f"after your yes: {names}" if move.reach.outlet == "ask" else names


def _why(move: Move) -> str:
    rule = move.reach.rule
    return f"{_WHY[move.change]} ({f'rule {rule!r}' if rule is not None else 'no rule matches'})"
