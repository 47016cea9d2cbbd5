"""Addresses of pages as a model or a page writes them, read once: what is looked up, what is asked, and nothing else.

Covered: users and passwords in an address, ports of other services, other schemes, hosts in ways that two readers could
read differently. Not covered: where a host leads; that is looked at when it has been looked up.
"""

import re
from urllib.parse import quote, urljoin, urlsplit

from mycoswarm.base.errors import EndpointError, InputError
from mycoswarm.base.url import Site
from mycoswarm.swarm.dial import Address, parse_address

MAX_ADDRESS = 2048
PORTS = {"http": 80, "https": 443}
OPEN_PORTS = frozenset({80, 443, 8080, 8443})  # where pages are served; other services speak on the others
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9_])?\.?|[0-9a-f:]+(:[0-9.]+)?")
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"  # what RFC 3986, 3.3, lets stand in a path, and escapes that are there already


def read_locator(text: str) -> Site:
    """Read the address of a page; its `path` is what the request names, the query included.

    Raises:
        InputError: none, or not one of a page that anybody may see.
    """
    text = text.strip()
    if len(text) > MAX_ADDRESS or not text.isprintable() or set(text) & set(' \\"<>'):
        raise _wrong("it is too long, or has spaces or signs that belong in none")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise _wrong("its host or port cannot be read") from exc
    scheme = parts.scheme
    if scheme != "http" and scheme != "https":
        raise _wrong("it must begin with http:// or https://")
    if "@" in parts.netloc:
        raise _wrong("it must hold no user and no password")
    port = port if port is not None else PORTS[scheme]
    if port not in OPEN_PORTS:
        raise _wrong(f"its port must be one of {', '.join(map(str, sorted(OPEN_PORTS)))}")
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    query = f"?{quote(parts.query, safe=_PATH_SAFE + '?')}" if parts.query else ""
    return Site("https" if scheme == "https" else "http", _read_host(host, port), port, path + query)


def worded(site: Site) -> str:
    """A page's address as text."""
    return f"{site.scheme}://{site.authority}{site.path}"


def led_on(site: Site, location: str) -> Site:
    """Where a page leads on.

    Raises:
        InputError: to what is no address of a page.
        EndpointError: from a protected connection to an open one.
    """
    try:
        text = urljoin(worded(site), location.strip())
    except ValueError as exc:
        raise _wrong("the page leads on to what is none") from exc
    found = read_locator(text)
    if site.scheme == "https" and found.scheme == "http":
        raise EndpointError(
            f"{site.host} leads on from https to http, which everybody on the way can read and change",
            hint="Ask for the http address itself, if that is meant.",
            code="page_redirects",
        )
    return found


def _read_host(host: str, port: int) -> str:
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        if not _HOST.fullmatch(host):
            raise _wrong("its host cannot be looked up")
        return parse_address(str(Address(host.removesuffix("."), port))).host
    except (UnicodeError, InputError) as exc:
        raise _wrong("its host cannot be looked up") from exc


def _wrong(why: str) -> InputError:
    return InputError(
        f"this is no address of a page: {why}", hint="Write it like https://example.org/page", code="bad_address"
    )
