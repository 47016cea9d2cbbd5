"""An endpoint as its owner registered it, the limits of every errand there, and what an errand needs from outside."""

import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from mycoswarm.base.errors import InputError
from mycoswarm.base.url import Site, read_base
from mycoswarm.swarm.place import Place, place_of

_VISIBLE = re.compile(r"[!-~]+")

# Lets through look-ups of these names and connections to these addresses ("host:port") while its block runs. The first
# argument says what for. It must hold for the whole process: the system's resolver runs in a thread of its own.
# Entering gives words where a packet filter around us is known to stay closed; errors of connecting add them.
Permit = Callable[[str, Sequence[str], Sequence[str]], AbstractAsyncContextManager[str | None]]
SHUT_HINT = "Look at the appliance's log: `journalctl -u mycoswarm-border`."
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port to addresses, "host:port" in numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint and the model to ask there. `url` is its base, as OpenAI's clients take it: "http://rack:8000/v1".

    `place` is how far away the owner allows it to be; every errand proves it anew. `secret`, its API key, is sent to
    it and shown nowhere. `via`: the runs of daemons that the request has passed, ours last, so that none gets it twice.
    `kind`: what errors call it: other servers that the owner registered, and one that a model is pulled from for the
    time of the pull, are reached in the same way.
    """

    name: str
    url: str
    place: Place
    model: str = ""
    secret: str | None = field(default=None, repr=False)
    via: tuple[str, ...] = ()
    kind: str = "endpoint"

    @property
    def words(self) -> str:
        """What errors and permits call it."""
        return f"{self.kind} {self.name}"

    @property
    def stem(self) -> str:
        """What the codes of its errors begin with."""
        return "server" if self.kind == "server" else "endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every wait in seconds and every size in bytes.

    `head_s`: from the request to the answer's first byte; many servers read the whole prompt first. `silence_s`: with
    no byte in mid-answer. `tail_s`: after the answer's own end, for its usage. `whole_s`: from the first byte sent to
    the last one read. `answer_bytes`: all that is read; a streamed token is 200 to 2,000 bytes of JSON. `body_bytes`:
    an answer in one piece, which is held in memory.
    """

    resolve_s: float = 5.0
    connect_s: float = 10.0
    head_s: float = 300.0
    silence_s: float = 120.0
    tail_s: float = 5.0
    whole_s: float = 3600.0
    answer_bytes: int = 128 << 20
    body_bytes: int = 16 << 20
    event_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What an errand needs from outside. `place` says where an address is. `resolve` None is the system's resolver,
    `trust` None the system's list of certificate authorities; both are given by tests."""

    permit: Permit
    limits: Limits = field(default_factory=Limits)
    place: Callable[[str], Place] = place_of
    resolve: Resolve | None = None
    trust: ssl.SSLContext | None = None


def read_url(url: str) -> Site:
    """Read an endpoint's base address; one without a path means "/v1".

    Raises:
        InputError: no such address.
    """
    found = read_base(url)
    return replace(found, path=found.path or "/v1")


def check_secret(secret: str) -> None:
    """Take an API key that a header can carry.

    Raises:
        InputError: empty, too long, or not plain visible characters; the message does not show it.
    """
    if len(secret) > 4096 or not _VISIBLE.fullmatch(secret):
        error = InputError("the endpoint's API key must be 1 to 4096 visible ASCII characters without spaces")
        error.param = "secret"
        raise error
