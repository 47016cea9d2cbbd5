"""An MCP server as its owner registered it, and what a node is told for one call. It holds secrets: see `__repr__`."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.external.target import Site
from mycoswarm.routing.reach import SERVED

MAX_NAME = 32  # of a server, so that tools with long names still fit
MAX_SECRETS = 32
MIN_MASKED = 6  # characters; shorter ones stand in many a word
PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

Text = Annotated[str, msgspec.Meta(max_length=8192)]


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server: `command` starts it, or it answers at `url`, no further away than `place`. `secrets`: environment of
    the command, or headers of each request."""

    server: str
    command: tuple[Text, ...] = ()
    url: str = ""
    place: Literal["LAN", "outside"] = "outside"
    secrets: dict[str, Text] = {}

    def __repr__(self) -> str:
        """Nothing secret."""
        return f"Definition(server={self.server!r})"

    def masked(self, text: str) -> str:
        """A text less the secrets that stand in it as they are."""
        for value in self.secrets.values():
            for part in (value, value.rpartition(" ")[2]):  # "Bearer KEY" may be told as KEY
                if len(part) >= MIN_MASKED:
                    text = text.replace(part, "[secret]")
        return text


class Means(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a node needs for one tool: `tool` is its name there, `digest` what the owner has allowed."""

    definition: Definition
    tool: str
    digest: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Means)


def is_server_name(text: str) -> bool:
    """Whether this can be a server's name: 1 to 32 small letters, digits, hyphens; the first is no hyphen."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def whole_name(server: str, tool: str) -> str:
    """What a server's tool is called in the swarm."""
    return f"{server}{SERVED}{tool}"


def write_means(means: Means) -> str:
    """As it travels."""
    return _encoder.encode(means).decode()


def read_means(text: str, tool: str) -> Means:
    """Read what came with a call of this tool, by its name in the swarm.

    Raises:
        InputError: it is nothing of the kind, or for another tool.
    """
    try:
        means: Means = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise InputError("the definition of this tool's server cannot be read", code="bad_means") from exc
    definition = means.definition
    if whole_name(definition.server, means.tool) != tool or bool(definition.command) is bool(definition.url):
        raise InputError("the definition that came is not of this tool's server", code="bad_means")
    return means


def is_reached(text: str) -> bool:
    """Whether this is of a server that is reached over HTTP; anything else counts as one that is started."""
    try:
        means: Means = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return bool(means.definition.url)


def site_of(definition: Definition) -> Site:
    """Where a server answers; its URL is in its normal form (store/endpoint.py)."""
    parts = urlsplit(definition.url)
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return Site(scheme, parts.hostname or "", parts.port or PORTS[scheme], parts.path or "/")
