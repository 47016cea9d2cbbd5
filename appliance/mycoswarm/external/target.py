"""An endpoint as its owner registered it, the limits of every errand there, and what an errand needs from outside."""

import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from mycoswarm.base.errors import InputError
from mycoswarm.swarm.dial import Address, parse_address
from mycoswarm.swarm.place import Place, place_of

MAX_URL = 2048
_VISIBLE = re.compile(r"[!-~]+")
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-z0-9._-]+)?")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")  # what a path may hold by RFC 3986, 3.3
_PORTS = {"http": 80, "https": 443}

# Lets through look-ups of these names and connections to these addresses ("host:port") while its block runs. The first
# argument says what for. It must hold for the whole process: the system's resolver runs in a thread of its own.
Permit = Callable[[str, Sequence[str], Sequence[str]], AbstractContextManager[object]]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # host and port to addresses, "host:port" in numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint and the model to ask there. `url` is its base, as OpenAI's clients take it: "http://rack:8000/v1".

    `place` is how far away the owner allows it to be; every errand proves it anew. `secret`, its API key, is sent to
    it and shown nowhere. `via`: the runs of daemons that the request has passed, ours last, so that none gets it twice.
    `kind`: what errors call it; a server that the owner pulls a model from is one for the time of the pull.
    """

    name: str
    url: str
    place: Place
    model: str = ""
    secret: str | None = field(default=None, repr=False)
    via: tuple[str, ...] = ()
    kind: Literal["endpoint", "server"] = "endpoint"

    @property
    def words(self) -> str:
        """What errors and permits call it."""
        return f"{self.kind} {self.name}"


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


@dataclass(frozen=True, slots=True)
class Site:
    """An endpoint's URL, read. `host` is a name or an address, an IPv6 one with its scope and without brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says: no scope (RFC 6874, 1), no usual port."""
        host = self.host.partition("%")[0]
        return str(Address(host, self.port)).removesuffix(f":{_PORTS[self.scheme]}")


def read_url(url: str) -> Site:
    """Read an endpoint's base URL; one without a path means "/v1".

    Raises:
        InputError: not an http or https URL, or one with a user, a password, a query or a fragment.
    """
    if len(url) > MAX_URL or not _VISIBLE.fullmatch(url) or set(url) & set("?#\\"):
        raise _wrong_url("it must be plain visible characters without ? and #")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").replace("%25", "%", 1), parts.port
    except ValueError as exc:
        raise _wrong_url("its host or port cannot be read") from exc
    if "@" in parts.netloc:
        raise _wrong_url("it must hold no user and no password")
    if parts.scheme != "http" and parts.scheme != "https":
        raise _wrong_url("it must begin with http:// or https://")
    if port == 0 or not HOST.fullmatch(host):
        raise _wrong_url("it names no host that can be looked up")
    where = parse_address(str(Address(host, port or _PORTS[parts.scheme])))
    path = parts.path.rstrip("/") or "/v1"
    if not _PATH.fullmatch(path):
        raise _wrong_url("its path holds characters that belong in no path")
    return Site("https" if parts.scheme == "https" else "http", where.host, where.port, path)


def check_secret(secret: str) -> None:
    """Take an API key that a header can carry.

    Raises:
        InputError: empty, too long, or not plain visible characters; the message does not show it.
    """
    if len(secret) > 4096 or not _VISIBLE.fullmatch(secret):
        error = InputError("the endpoint's API key must be 1 to 4096 visible ASCII characters without spaces")
        error.param = "secret"
        raise error


def _wrong_url(why: str) -> InputError:
    error = InputError(f"the endpoint's URL is wrong: {why}", hint='Write for example "http://rack.local:8000/v1".')
    error.param = "url"
    return error
