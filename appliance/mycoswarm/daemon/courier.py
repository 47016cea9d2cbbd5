"""Goes out for a tool: what `fetch_page` and `search_web` ask for is brought in here and read in the jail.

Covered: pages at addresses that are not the internet's, at this machine, in its own networks, or at nodes of the swarm.
The search server is another matter: its owner named it, so it may be anywhere, and it alone is reached for a search.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from mycoswarm.base.egress import packed
from mycoswarm.base.errors import InputError
from mycoswarm.base.url import Site
from mycoswarm.daemon.barrier import Errand
from mycoswarm.external.download import Crossing, Reserve, download
from mycoswarm.external.frontier import is_public
from mycoswarm.external.locator import read_locator
from mycoswarm.external.target import Permit, read_url
from mycoswarm.sandbox.argument import read_arguments
from mycoswarm.sandbox.haul import Haul
from mycoswarm.sandbox.toolset import TOOLS
from mycoswarm.swarm.dial import parse_address
from mycoswarm.swarm.place import Place

MAX_KIND = 1000  # characters of a Content-Type; real ones have forty


@dataclass(frozen=True, slots=True)
class Courier:
    """`outward` opens the egress guard for searches or pages, `place` says where an address is, `ours` are addresses
    of the swarm's nodes."""

    outward: Callable[[Errand], Permit]
    place: Callable[[str], Place]
    ours: Callable[[], Iterable[str]]

    async def __call__(self, tool: str, arguments: str, means: str) -> Haul:
        """Bring in what a call of a tool asks for.

        Raises:
            InputError: what is asked for is no address, or the arguments do not fit.
            EgressError: it leads where no tool goes; nothing was sent.
            UnreachableError: nobody is there.
            EndpointError: what is there is none that can be asked.
        """
        given = read_arguments(TOOLS[tool].spec, arguments)
        if tool == "search_web":
            site = _question(means, given["query"])
            crossing = Crossing(
                purpose="the search server",
                permit=self.outward("search"),
                judge=lambda host, address: None,
                reserve=Reserve(redirects=0),
                called="the search server",
            )
        else:
            site = read_locator(given["url"])
            hosts = frozenset(map(_host_of, self.ours()))

            def judge(host: str, address: str) -> str | None:
                return self._fault(host, address, hosts)

            crossing = Crossing(purpose="pages for tools", permit=self.outward("page"), judge=judge)
        found = await download(site, crossing)
        return Haul(found.address, found.status, found.kind[:MAX_KIND], found.body, found.is_cut)

    def _fault(self, host: str, address: str, ours: frozenset[Any]) -> str | None:
        numeric = parse_address(address).host
        # Where it leads is not told: a page could learn the addresses of a network by asking for its names.
        if not is_public(numeric):
            return "is at no public address of the internet"
        if host in ours or packed(numeric) in ours:
            return "is a node of this swarm"
        return "is this machine, or in its own networks" if self.place(address) != "outside" else None


def _host_of(address: str) -> bytes | str:
    """The host of "host:port" as it is compared: packed where it is an address, else a name."""
    host = parse_address(address).host
    return packed(host) or host.lower().removesuffix(".")


def _question(means: str, query: str) -> Site:
    """What a SearXNG is asked."""
    try:
        url = json.loads(means)["url"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InputError(
            "no search server is registered", hint="`mycoswarm-node search set URL` registers one."
        ) from exc
    site = read_url(url)
    path = urlsplit(url).path.rstrip("/")
    return Site(site.scheme, site.host, site.port, f"{path}/search?{urlencode({'q': query, 'format': 'json'})}")
