"""An answer as it comes from a ring, with the tool calls taken out of its text."""

from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.job import Job
from mycoswarm.wire.dialect import Dialect, dialect_of, find_dialect
from mycoswarm.wire.report import Finished, Piece
from mycoswarm.wire.request import Sampling
from mycoswarm.wire.tool import ToolCall
from mycoswarm.wire.toolcall import CallReader, Said


class Hearing:
    """One answer of one model, over all tries: a node that goes on with it continues its text.

    `sampling` is what the head is asked for. A request without tools is heard unchanged, unless the model says all
    that it says in channels, of which only the last is the answer.
    """

    def __init__(self, job: Job, facts: ModelFacts, *, is_poor: bool = False) -> None:
        """`is_poor`: the model's certificate asks for a strict hand, unless the request itself says otherwise.

        Raises:
            UnsupportedError: tools are offered, and this model cannot call any.
        """
        self.sampling: Sampling = job.sampling
        self._reader: CallReader | None = None
        dialect, choice = _dialect(job, facts), job.choice.settled(is_poor)
        if dialect is None:
            return
        tools = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in job.prompt.tools}
        form = dialect.form(job.prompt, choice) if tools else None
        self.sampling = job.sampling.calling(form, dialect.shown)
        self._reader = CallReader(dialect, tools, job.request_id, None if choice.is_parallel else 1)

    def hear(self, piece: Piece) -> list[Piece | ToolCall]:
        """What is certain now. The first event is a piece with all tokens of this one."""
        if self._reader is None:
            return [piece]
        said = self._reader.feed(piece.text)
        first = said.pop(0) if said and isinstance(said[0], str) else ""
        assert isinstance(first, str)
        begun = Piece(request_id=piece.request_id, text=first, token_ids=piece.token_ids, logprobs=piece.logprobs)
        return [begun, *_events(said, piece.request_id)]

    def end(self, finished: Finished) -> list[Piece | ToolCall]:
        """What was held back, now that the answer has ended."""
        if self._reader is None:
            return []
        return _events(self._reader.end(is_whole=finished.reason == "stop"), finished.request_id)


def _dialect(job: Job, facts: ModelFacts) -> Dialect | None:
    if job.prompt.tools:
        return dialect_of(facts.template, facts.name)
    dialect = find_dialect(facts.template) if job.prompt.messages is not None else None
    return dialect if dialect is not None and dialect.has_channels else None


def _events(said: list[Said], request_id: str) -> list[Piece | ToolCall]:
    return [one if isinstance(one, ToolCall) else Piece(request_id=request_id, text=one, token_ids=()) for one in said]
