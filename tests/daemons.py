"""What tests of real daemons share: answers that are read piece by piece, and the processes behind them."""

import contextlib
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import gguf
import psutil

from mycoswarm.catalog.shelf import BUILT_IN_PATH
from mycoswarm.cli.fleet import Fleet, Member
from mycoswarm.cli.talk import Reply, stream_chat

PAIR = "split; nodes=worker-1,worker-2"


@cache
def endless() -> dict[str, int]:
    """A bias under which spore goes on until its tokens are used up: its end and all that is no text are out."""
    kinds = gguf.GGUFReader(BUILT_IN_PATH).fields["tokenizer.ggml.token_type"].contents()
    return {str(number): -100 for number, kind in enumerate(kinds) if kind != gguf.TokenType.NORMAL}


class Answer:
    """One answer that is being read. `more` reads pieces, `rest` all that come; `reply` then holds what was told."""

    def __init__(self, fleet: Fleet, route: str | None, *, tokens: int = 24, model: str = "spore", **body: Any) -> None:
        self.reply = Reply()
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": "What is mycoSwarm?"}],
            "max_tokens": tokens,
            "temperature": 0,
            **body,
        }
        self._texts = stream_chat(fleet.coordinator.call, asked, self.reply, route)

    def more(self, pieces: int) -> str:
        for _ in range(pieces):
            next(self._texts)
        return self.reply.text

    def rest(self) -> str:
        for _ in self._texts:
            pass
        return self.reply.text

    def hang_up(self) -> None:
        """Close the connection while the answer comes."""
        self._texts.close()  # type: ignore[attr-defined]  # a generator


def answer(fleet: Fleet, route: str | None = None, **more: Any) -> str:
    """Ask and read the whole answer."""
    return Answer(fleet, route, **more).rest()


def stages_of(member: Member) -> list[psutil.Process]:
    """The stage processes of a daemon that runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(member.process.pid).children(recursive=True)
        return [child for child in found if "mycoswarm.stage.process" in " ".join(words_of(child))]
    return []


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(look: Callable[[], Any], limit_s: float, what: str) -> float:
    """Ask until the answer is true; gives the seconds that took."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < limit_s, f"{what}: not within {limit_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - began


def logs_of(fleet: Fleet) -> str:
    """All that the daemons have logged."""
    return "\n".join(member.log.read_text("utf-8", "replace") for member in fleet.members)
