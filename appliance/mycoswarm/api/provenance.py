"""Where an answer was made: what headers and bodies say of it."""

from typing import Any

from mycoswarm.chat.job import Decided
from mycoswarm.routing.decision import Dispatch
from mycoswarm.swarm.place import PLACES


class Provenance:
    """The decisions of one request, known by its receipt. Of several tries the last one counts, and all have read the
    prompt."""

    def __init__(self, receipt: str) -> None:
        self.receipt = receipt
        self._decided: list[Decided] = []

    def take(self, decided: Decided) -> None:
        """A try begins."""
        self._decided.append(decided)

    @property
    def last(self) -> Decided | None:
        """The last try's decision."""
        return self._decided[-1] if self._decided else None

    def shown(self) -> dict[str, Any]:
        """For the body, beside OpenAI's fields. `earlier_stages` had begun the answer and were lost."""
        extra: dict[str, Any] = {"receipt": self.receipt}
        if self._decided:
            last = self._decided[-1].decision
            extra |= {"ran": self._ran(), "nodes": list(self._names()), "rule": last.rule}
            extra["reason"] = last.explanation.reason
            extra["stages"] = _stages(self._decided[-1])
            extra["earlier_stages"] = [_stages(decided) for decided in self._decided[:-1]]
            if isinstance(last, Dispatch):
                extra["endpoint"] = {"name": last.endpoint.name, "model": last.model}
        return extra

    def headers(self) -> dict[str, str]:
        """The receipt's number, and which machines saw the prompt."""
        headers = {"x-request-id": self.receipt, "x-mycoswarm-receipt": self.receipt}
        if self._decided:
            headers["x-mycoswarm-ran"] = self._ran()
            headers["x-mycoswarm-nodes"] = _plain(",".join(self._names()))
            rules = dict.fromkeys(decided.decision.rule for decided in self._decided)
            headers["x-mycoswarm-rule"] = _plain(",".join(rules))
        return headers

    def _ran(self) -> str:
        """The furthest place that has read the prompt, in all tries."""
        return max((decided.place for decided in self._decided), key=PLACES.index)

    def _names(self) -> tuple[str, ...]:
        """Every node and endpoint that has read the prompt, in all tries."""
        return tuple(dict.fromkeys(name for decided in self._decided for name in decided.names))


def _plain(text: str) -> str:
    """Text as a header can carry it; names come from other machines."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _stages(decided: Decided) -> list[dict[str, Any]]:
    if isinstance(decided.decision, Dispatch):
        return []
    return [
        {"node": share.node.name, "place": share.node.place, "layers": [share.first, share.last]}
        for share in decided.decision.placed.shares
    ]
