"""One file fetched from where its owner says: one GET, and at most five redirects, each to a judged address.

Not huggingface_hub, which could not be held to the egress guard: it downloads through hf-xet, native code whose
connections Python does not see; it looks names up and connects by itself, so nobody stands between an address and what
is sent there; it sends a token that it finds in the user's folder, keeps a session for the whole process, and puts each
file into a cache of its own beside our shelf. What it does for one public file is the little that stands here: the
hub's `resolve` address answers with a redirect and says the file's SHA-256 and size (X-Linked-Etag, X-Linked-Size).

Covered: only https; the host that the owner named may be anywhere, on this LAN too, for it was named; whoever that
host sends us to must be on the public internet, so no server makes us ask the owner's router; what is said of the file
(its hash and size) counts from the named host alone; lengths that contradict each other are errors. No key, cookie or
prompt is sent, and permits are open only while a name is looked up or an address is dialled. Not covered: what the
named server really holds, where nobody says its hash.
"""

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

from mycoswarm.base.errors import BusyError, EndpointError, InputError, NotFoundError, SwarmError
from mycoswarm.base.url import Site
from mycoswarm.external import frontier
from mycoswarm.external.complaint import garbled
from mycoswarm.external.conduit import Conduit, Head, connect
from mycoswarm.external.origin import Origin, read_link
from mycoswarm.external.target import Limits, Passage, Target
from mycoswarm.external.whereabouts import Spot, prove
from mycoswarm.swarm.dial import parse_address

MAX_REDIRECTS = 5
MAX_FILE_BYTES = 1 << 44  # 16 TiB: more than any model; a number that lies must not reach the disk's arithmetic
# A file may take days on a slow line, but never a minute without a byte.
LIMITS = Limits(head_s=60.0, silence_s=60.0, whole_s=7 * 86400.0, answer_bytes=MAX_FILE_BYTES)
BUSY_S = 60
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_COMMIT = re.compile(r"[0-9a-f]{40}")
_STRONG = re.compile(r'"[!-~]{1,200}"')  # RFC 9110, 8.8.3: a weak one ("W/...") does not vouch for bytes
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Have:
    """What is here already. The rest is of the whole file; `validator` is the server's strong tag of it."""

    count: int = 0
    total_bytes: int | None = None
    sha256: str | None = None
    validator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The file, before its bytes come, of which the first is number `first`: 0, or what we have.

    `sha256` and `revision` (of the repository) are what the named host says, None where it says nothing. `hosts`: all
    that were asked, each with the address that was connected to.
    """

    first: int
    total_bytes: int
    sha256: str | None
    revision: str | None
    validator: str | None
    hosts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Said:
    """What the named host says of the file."""

    sha256: str | None = None
    total_bytes: int | None = None
    revision: str | None = None


def may_follow_to(spot: Spot) -> bool:
    """Whether a host that we are sent to may be there: on the public internet, and neither ours nor near."""
    host = parse_address(spot.address).host
    return spot.place == "outside" and frontier.is_public(host)


async def haul(
    origin: Origin, have: Have, passage: Passage, *, may_follow: Callable[[Spot], bool] = may_follow_to
) -> AsyncGenerator[Found | bytes, None]:
    """Fetch a file: `Found`, then its bytes to the last one. Closing the generator closes the connection at once.

    `may_follow` judges the addresses of hosts that the named one sends us to.

    Raises:
        NotFoundError: there is no such file.
        UnreachableError: a host cannot be looked up or connected to.
        BusyError: it says so (429).
        EndpointError: it refuses, fails, lies about the file, sends us where it may not, is silent or breaks off.
        EgressError: this process may not go there.
    """
    site, said, hosts = origin.site, _Said(), list[tuple[str, str]]()
    for _ in range(MAX_REDIRECTS + 1):
        target = Target(name=site.authority, url="", place="outside", kind="server")
        spots = await prove(target, site, passage)
        is_named = (site.host, site.port) == (origin.site.host, origin.site.port)
        if not is_named and not all(map(may_follow, spots)):
            raise EndpointError(
                f"{origin.site.authority} sends us on to {site.authority}, which is not on the public internet",
                hint="Name that server yourself if it is yours.",
                code="server_redirects",
            )
        with await connect(target, site, spots, passage) as conduit:
            hosts.append((site.authority, conduit.spot.address))
            head = await conduit.ask("GET", "", more=_wish(have))
            said = _listen(target, head, said) if is_named else said
            if head.status in REDIRECTS:
                site = _next_site(target, head, site)
                have = have if said.sha256 in (None, have.sha256) else Have()
                continue
            if head.status == 416 or (head.status == 206 and said.sha256 not in (None, have.sha256)):
                if not have.count:
                    raise garbled(target, "it answers with a part of what was asked for whole")
                have = Have()  # another file than the one that we have the beginning of
                continue
            yield replace(_found(target, head, have, said), hosts=tuple(hosts))
            async for data in _body(conduit):
                yield data
            return
    raise EndpointError(
        f"{origin.site.authority} sends us on more than {MAX_REDIRECTS} times",
        hint="Name the file's final address.",
        code="server_redirects",
    )


def _wish(have: Have) -> dict[str, str]:
    """The headers that ask for the rest of a file, where we can know that it is of the same file."""
    if have.count and have.sha256 is not None:  # the hash of the whole will show it
        return {"accept": "*/*", "range": f"bytes={have.count}-"}
    if have.count and have.validator is not None:
        return {"accept": "*/*", "range": f"bytes={have.count}-", "if-range": have.validator}
    return {"accept": "*/*"}


def _listen(target: Target, head: Head, said: _Said) -> _Said:
    digest = _SHA256.fullmatch(head.fields.get("x-linked-etag", ""))
    size = head.fields.get("x-linked-size", "")
    commit = head.fields.get("x-repo-commit", "")
    told = _Said(
        digest[1] if digest else said.sha256,
        int(size) if size.isascii() and size.isdigit() and len(size) < 20 else said.total_bytes,
        commit if _COMMIT.fullmatch(commit) else said.revision,
    )
    if said.sha256 not in (None, told.sha256) or said.total_bytes not in (None, told.total_bytes):
        raise _lie(target, "it names two different files on one way")
    return told


def _next_site(target: Target, head: Head, site: Site) -> Site:
    try:
        return read_link(head.fields.get("location", ""), site)
    except InputError as exc:
        raise EndpointError(
            f"{target.words} sends us to an address that is not used ({exc.message.partition(': ')[2]})",
            hint="Name the file's final address.",
            code="server_redirects",
        ) from exc


def _found(target: Target, head: Head, have: Have, said: _Said) -> Found:
    """Read what comes.

    Raises:
        SwarmError: a status that means no file, or lengths that contradict each other.
    """
    if head.status not in (200, 206):
        raise _refusal(target, head)
    length = head.fields.get("content-length", "")
    if "transfer-encoding" in head.fields or not (length.isascii() and length.isdigit() and len(length) < 20):
        raise garbled(target, "it does not say how long the file is")
    first, total = 0, int(length)
    if head.status == 206:
        part = _RANGE.fullmatch(head.fields.get("content-range", ""))
        first, last, total = map(int, part.groups()) if part else (-1, -1, -1)
        is_rest = have.count and first == have.count and total == (have.total_bytes or total)
        if not is_rest or last != total - 1 or int(length) != total - first:
            raise _lie(target, "the part that it sends is not the part that was asked for")
    if said.total_bytes not in (None, total):
        raise _lie(target, f"the file is to have {said.total_bytes} bytes, and {total} are to come")
    if not 0 < total <= MAX_FILE_BYTES:
        raise _lie(target, f"a model of {total} bytes there is not")
    tag = head.fields.get("etag", "")
    return Found(
        first=first,
        total_bytes=total,
        sha256=said.sha256,
        revision=said.revision,
        validator=tag if _STRONG.fullmatch(tag) else None,
        hosts=(),
    )


async def _body(conduit: Conduit) -> AsyncGenerator[bytes, None]:
    while (data := await conduit.read()) is not None:
        yield data


def _lie(target: Target, what: str) -> EndpointError:
    return EndpointError(f"{target.words} contradicts itself: {what}", hint="Try again later.", code="server_lies")


def _refusal(target: Target, head: Head) -> SwarmError:
    if head.status in (401, 403):
        return EndpointError(
            f"{target.words} does not give the file to everybody (status {head.status})",
            hint="Fetch it in your browser, signed in, and add it with `mycoswarm-node models add FILE`.",
            code="server_refuses",
        )
    if head.status in (404, 410):
        return NotFoundError(f"{target.words} has no such file", hint="Look at the name, the file and the revision.")
    if head.status == 429:
        after = head.retry_after or ""
        wait_s = int(after[:4]) if after.isascii() and after.isdigit() else BUSY_S
        return BusyError(f"{target.words} is busy", retry_after_s=max(1, wait_s), code="server_busy")
    return EndpointError(f"{target.words} failed (status {head.status})", hint="Try again later.", code="server_failed")
