"""What one request leaves in the ledger: a row for each decision, before anything runs, and one for how it ended.

No prompt text, unless the owner has set that prompts are kept.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.job import Decided, Job
from mycoswarm.chat.stopwatch import Stopwatch
from mycoswarm.routing.decision import Decision, Dispatch, Refusal
from mycoswarm.swarm.place import PLACES, Place
from mycoswarm.wire.report import Finished, Piece, Timing, believed
from mycoswarm.wire.ticket import Warrant
from mycoswarm.wire.tool import ToolCall

LOADED = "loaded"  # the outcome where a model was loaded and nothing asked of it
TOKEN_CHARACTERS = 4  # of English in common vocabularies; other languages have fewer


@dataclass(slots=True)
class Account:
    """What is known of a request so far. `at` is when it was asked, in seconds since 1970."""

    job: Job
    facts: ModelFacts | None
    at: float
    watch: Stopwatch = field(default_factory=Stopwatch)
    rule: str = ""
    decided: list[Decided] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    has_spoken: bool = False
    said_characters: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timing: Timing | None = None
    outcome: str = ""

    @property
    def place(self) -> Place | None:
        """The furthest place that has read the prompt; None where nobody has."""
        return max((one.place for one in self.decided), key=PLACES.index, default=None)

    def say(self, piece: Piece) -> None:
        """A part of the answer has come."""
        if piece.text or piece.token_ids:
            self.watch.speak()
        self.tokens += piece.token_ids
        self.said_characters += len(piece.text)
        self.has_spoken = self.has_spoken or bool(piece.text or piece.token_ids)

    def call(self, call: ToolCall) -> None:
        """A whole tool call has come, from an endpoint."""
        self.watch.speak()
        self.said_characters += len(call.arguments)
        self.has_spoken = True

    def finish(self, report: Finished) -> Finished:
        """The answer has come to its end; gives what is told of it, without times that cannot be."""
        report = believed(report, self.watch.elapsed_s())
        self.outcome, self.prompt_tokens = report.reason, report.prompt_tokens
        self.completion_tokens, self.timing = report.completion_tokens, report.timing
        return report

    def spent(self) -> int:
        """The tokens to hold against the key's limit. Where nobody has counted them (the client left, an endpoint does
        not tell) they are reckoned by their characters: else leaving before the last word would cost nothing."""
        if self.place is None:
            return 0
        said = self.completion_tokens or max(len(self.tokens), math.ceil(self.said_characters / TOKEN_CHARACTERS))
        return said + (self.prompt_tokens or math.ceil(self.job.characters / TOKEN_CHARACTERS))

    def answer(self) -> dict[str, Any]:
        """The row of how it ended."""
        return {
            "outcome": self.outcome or "internal_error",
            "model": self.facts.name if self.facts else self.job.model[:200],
            "model_digest": self.facts.digest if self.facts else None,
            "key": self.job.asker.key_name,
            "rule": self.rule,
            "ran": self.place,
            "nodes": list(dict.fromkeys(name for one in self.decided for name in one.names)),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens or len(self.tokens),
            "seconds": round(self.watch.elapsed_s(), 3),
            "timing": {**self.watch.shown(), **(_timed(self.timing, self.decided[-1]) if self.timing else {})},
        }


def decision_row(
    account: Account, outcome: Decision | Dispatch | Refusal, *, attempt: int, approved_by: str | None, prompt: bool
) -> dict[str, Any]:
    """The row of one decision, all that `rules replay` and `ledger exposure` need of it."""
    row: dict[str, Any] = {"attempt": attempt, "asked": _asked(account), "reason": outcome.explanation.reason}
    if account.job.only_loads:
        row["only_loads"] = True
    if outcome.explanation.limit is not None:
        row["limit"] = outcome.explanation.limit
    if isinstance(outcome, Refusal):
        named = {"rule": outcome.explanation.rule, "rule_id": outcome.rule_id, "version": outcome.version}
        row |= {"outcome": "refused", "code": outcome.code, **named}
        return row
    ground = outcome.ground
    row |= {"rule": ground.rule, "rule_id": ground.rule_id, "version": ground.version, "action": ground.action}
    if approved_by is not None:
        row["approved_by"] = approved_by
    if isinstance(outcome, Dispatch):
        row |= {"outcome": "external", "endpoint": outcome.endpoint.name, "model_there": outcome.model}
        row["place"] = outcome.endpoint.place
    else:
        row |= {"outcome": "run", "holder": outcome.holder_id, "nodes": _nodes(outcome)}
    if prompt:
        row["prompt"] = account.job.prompt.text or list(account.job.prompt.messages or account.job.inputs)
    return row


def warrant_of(account: Account, outcome: Decision, receipt: str) -> Warrant:
    """The decision as the tickets for it carry it. `receipt`: the digest of its row."""
    ground, asker = outcome.ground, account.job.asker
    return Warrant(
        rule=ground.rule,
        rule_id=ground.rule_id,
        version=ground.version,
        action=ground.action,
        task=account.job.task,
        labels=tuple(sorted(asker.labels | asker.added)),
        receipt=receipt,
    )


def _timed(timing: Timing, decided: Decided) -> dict[str, Any]:
    """What the head told of the time, with the names of the stages; a head that tells of others is not heard."""
    row: dict[str, Any] = {
        "queued_s": timing.queued_s,
        "prefill_s": timing.prefill_s,
        "decode_s": timing.decode_s,
        "steps": timing.steps,
        "hop_overhead_median_s": timing.hop_overhead_median_s,
    }
    row = {name: round(value, 6) for name, value in row.items() if value is not None}
    shares = decided.decision.placed.shares if isinstance(decided.decision, Decision) else ()
    if shares and len(shares) == len(timing.stages):
        row["stages"] = [
            {
                "node": share.node.name,
                "layers": [share.first, share.last],
                "compute_median_s": stage.compute_median_s,
                "hop_median_s": stage.hop_median_s,
            }
            for share, stage in zip(shares, timing.stages, strict=True)
        ]
    return row


def _asked(account: Account) -> dict[str, Any]:
    job, asker, narrowing = account.job, account.job.asker, account.job.narrowing
    return {
        "model": account.facts.name if account.facts else job.model[:200],
        "model_digest": account.facts.digest if account.facts else None,
        "task": job.task,
        "characters": job.characters,
        "key": asker.key_name,
        "user": asker.user,
        "labels": sorted(asker.labels),
        "added": sorted(asker.added),
        "client": asker.client,
        "at": account.at,
        "route": {
            "mode": narrowing.mode,
            "stages": narrowing.stages,
            "nodes": list(narrowing.nodes),
            "within": narrowing.within,
        },
    }


def _nodes(decision: Decision) -> list[dict[str, Any]]:
    return [
        {
            "id": share.node.node_id,
            "name": share.node.name,
            "place": share.node.place,
            "layers": [share.first, share.last],
        }
        for share in decision.placed.shares
    ]
