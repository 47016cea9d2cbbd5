"""The address of a server that the owner names, read in one way only: what one reader takes for the host, no other may
take for something else.

Covered: users and passwords, queries and fragments, other ways to write a number, paths that lead upwards. Not covered:
where a host leads; that is looked at when it has been looked up.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from mycoswarm.base.errors import InputError

MAX_URL_CHARACTERS = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^/:\[\]]+)(?::([0-9]{1,5}))?(/.*)?", re.IGNORECASE)
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that resolvers read as a part of an IPv4 address
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+)*")


@dataclass(frozen=True, slots=True)
class Site:
    """A server and where on it. `host` is a name or an address, an IPv6 one without brackets; `path` is empty or begins
    with a slash. As text it is in its one normal form."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host with its port, where that is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_base(text: str) -> Site:
    """Read `http[s]://host[:port][/path]`, as clients take a server's base address.

    The errors name what is wrong and never the address: a password may stand in it.

    Raises:
        InputError: no such address.
    """
    if len(text) > MAX_URL_CHARACTERS or not re.fullmatch(r"[!-~]+", text):
        raise _bad_url("it is too long, or has spaces or letters outside ASCII", "Write a foreign host as xn--...")
    for mark, words in (("@", "a user or password"), ("?", "a query"), ("#", "a fragment"), ("\\", "a backslash")):
        if mark in text:
            raise _bad_url(f"it has {words}", "Leave that out; a key is given as the endpoint's secret.")
    found = _URL.fullmatch(text)
    if found is None:
        raise _bad_url("it is not of the form http[s]://host[:port][/path]", "Such as http://192.168.1.5:8000/v1")
    scheme: Literal["http", "https"] = "https" if found[1].lower() == "https" else "http"
    port, path = int(found[3] or DEFAULT_PORTS[scheme]), (found[4] or "").rstrip("/")
    if not 0 < port < 1 << 16:
        raise _bad_url("its port is none", "Take 1 to 65535.")
    if not _PATH.fullmatch(path) or any(unquote(part) in (".", "..") for part in path.split("/")):
        raise _bad_url("its path has empty parts, dots for parts, or signs that no path has", "Write the path plainly.")
    return Site(scheme, normal_host(found[2].lower()), port, path)


def normal_host(host: str) -> str:
    """A name in small letters without its last dot, or an address in its usual form; an IPv6 one comes in brackets.

    Raises:
        InputError: neither, or an address of no one machine.
    """
    host = host.removesuffix(".")
    if host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError as exc:
            raise _bad_url("its host is an address that is none", "Write all four numbers, or [IPv6].") from exc
        if address.is_unspecified or address.is_multicast:
            raise _bad_url("its host is no address of one machine", "Take the server's own address.")
        return str(address)
    if not _HOST.fullmatch(host):
        raise _bad_url("its host is no name", "Take a host's name or address.")
    return host


def _bad_url(words: str, hint: str) -> InputError:
    error = InputError(f"this is no address for an endpoint: {words}", hint=hint, code="bad_url")
    error.param = "url"
    return error
