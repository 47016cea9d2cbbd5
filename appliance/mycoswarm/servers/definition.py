"""An MCP server as its owner registered it, and what a node is told for one call. It holds secrets: see `__repr__`."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.base.url import Site
from mycoswarm.routing.reach import SERVED
from mycoswarm.store.endpoint import normal_url
from mycoswarm.wire.chore import MAX_MEANS

MAX_NAME = 32  # of a server, so that tools with long names still fit
MAX_TOOL = 64
MAX_SECRETS = 32
MIN_MASKED = 6  # characters; shorter ones stand in many a word
PORTS = {"http": 80, "https": 443}
MAX_WORDS = 64  # of a command
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # a token by RFC 9110, 5.6.2
_OURS = re.compile(r"(host|connection|content-.*|transfer-encoding|accept.*|cookie|upgrade|te|trailer|mcp-.*)")
_VISIBLE = re.compile(r"[ -~]+")

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


def checked(definition: Definition) -> Definition:
    """A definition as the owner gives it, held against what can be; its URL in its normal form. Errors hold no secret.

    Raises:
        InputError: says in what it is wrong.
    """
    if not is_server_name(definition.server):
        raise _wrong(f"an MCP server is called by up to {MAX_NAME} small letters, digits and hyphens")
    if bool(definition.command) is bool(definition.url):
        raise _wrong("an MCP server has a command or a URL")
    if len(definition.command) > MAX_WORDS or any("\0" in word for word in definition.command):
        raise _wrong(f"a command has at most {MAX_WORDS} words, and no zero byte in them")
    if definition.command and not definition.command[0]:
        raise _wrong("the first word of a command is a program")
    if len(definition.secrets) > MAX_SECRETS:
        raise _wrong(f"it has more than {MAX_SECRETS} secrets")
    for name, value in definition.secrets.items():
        shown = name[:80]
        if definition.command and (not _VARIABLE.fullmatch(name) or "\0" in value):
            raise _wrong(f"{shown!r} is no environment variable, or its value none that can be set")
        if definition.url and (not _HEADER.fullmatch(name) or _OURS.fullmatch(name.lower())):
            raise _wrong(f"{shown!r} is no header that you can set")
        if definition.url and (not _VISIBLE.fullmatch(value) or value != value.strip()):
            raise _wrong(f"the value of {shown!r} is none that a header can have")
    definition = msgspec.structs.replace(definition, url=normal_url(definition.url) if definition.url else "")
    if len(write_means(Means(definition=definition, tool="a" * MAX_TOOL, digest="0" * 64))) > MAX_MEANS:
        raise _wrong("all that is said of it is too long to travel with a call")
    return definition


def _wrong(why: str) -> InputError:
    return InputError(why, hint="`mycoswarm-node mcp add --help` shows how.", code="bad_mcp_server")


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
