"""Files fetched over real TLS: ranges, redirects, and servers that lie, refuse, break off or lead elsewhere."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import Authority
from endpoints import Doorkeeper
from hub import COMMIT, Hub, serving
from mycoswarm.base.errors import BusyError, EndpointError, NotFoundError, SwarmError, UnreachableError
from mycoswarm.external.origin import read_source
from mycoswarm.external.pull import MAX_REDIRECTS, Found, Have, haul, may_follow_to
from mycoswarm.external.target import Limits, Passage
from mycoswarm.external.whereabouts import Spot

DATA = b"GGUF" + bytes(range(256)) * 400
LIMITS = Limits(resolve_s=1.0, connect_s=2.0, head_s=2.0, silence_s=0.3, whole_s=20.0, answer_bytes=1 << 30)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def hub(authority: Authority) -> Iterator[Hub]:
    with serving(authority, DATA) as running:
        yield running


def fetched(
    hub: Hub, authority: Authority, have: Have | None = None, *, source: str = "", public: bool = True, **more: Any
) -> tuple[Found, bytes]:
    """All of one file; the content network's host counts as one of the public internet, or not."""

    async def work() -> tuple[Found, bytes]:
        given = {"permit": Doorkeeper(), "limits": LIMITS, "resolve": hub.resolve(), "trust": authority.trust()}
        passage = Passage(**{**given, **more})
        origin = read_source(source or "hf:o/r/tiny.gguf", hub.url)
        arriving = haul(origin, have or Have(), passage, may_follow=lambda spot: public)
        async with asyncio.timeout(15), aclosing(arriving):
            found = await anext(arriving)
            assert isinstance(found, Found)
            parts = [one async for one in arriving]
            return found, b"".join(one for one in parts if isinstance(one, bytes))

    return asyncio.run(work())


def refused(hub: Hub, authority: Authority, have: Have | None = None, **more: Any) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        fetched(hub, authority, have, **more)
    assert caught.value.message and caught.value.hint and "secret" not in caught.value.message
    return caught.value


def test_a_file_of_the_hub_comes_with_its_hash_and_commit_over_one_redirect(hub: Hub, authority: Authority) -> None:
    keeper = Doorkeeper()
    found, data = fetched(hub, authority, permit=keeper)
    assert data == DATA and (found.first, found.total_bytes) == (0, len(DATA))
    assert (found.sha256, found.revision, found.validator) == (hub.sha256, COMMIT, '"v1"')
    at = f"127.0.0.1:{hub.port}"
    assert found.hosts == ((f"hub.example:{hub.port}", at), (f"cdn.example:{hub.port}", at))
    assert [(addresses, names) for _, addresses, names in keeper.asked] == [
        ((), ("hub.example",)),
        ((at,), ()),
        ((), ("cdn.example",)),
        ((at,), ()),
    ], "nothing else was opened"
    assert not keeper.is_open
    for _, _, headers in hub.asked:
        assert not {"authorization", "cookie"} & set(headers)


def test_a_plain_address_is_fetched_as_it_is_and_promises_nothing(hub: Hub, authority: Authority) -> None:
    found, data = fetched(hub, authority, source=f"{hub.url}/plain/tiny.gguf?key=secret")
    assert data == DATA and found.sha256 is None and found.revision is None and len(found.hosts) == 1
    assert hub.asked[0][1] == "/plain/tiny.gguf?key=secret"


@pytest.mark.parametrize("source", ["hf:o/r/tiny.gguf", "plain"])
def test_the_rest_of_a_file_is_asked_for_where_it_is_sure_to_be_of_the_same(
    hub: Hub, authority: Authority, source: str
) -> None:
    source = f"{hub.url}/plain/tiny.gguf" if source == "plain" else source
    is_known = source.startswith("hf:")
    have = Have(count=100, total_bytes=len(DATA), sha256=hub.sha256 if is_known else None, validator='"v1"')
    found, data = fetched(hub, authority, have, source=source)
    assert found.first == 100 and data == DATA[100:]
    assert hub.asked[-1][2].get("if-range") == (None if is_known else '"v1"')


@pytest.mark.parametrize("source", ["hf:o/r/tiny.gguf", "plain"])
def test_another_file_than_the_one_begun_comes_whole(hub: Hub, authority: Authority, source: str) -> None:
    source = f"{hub.url}/plain/tiny.gguf" if source == "plain" else source
    have = Have(count=100, sha256="0" * 64 if source.startswith("hf:") else None, validator='"v0"')
    found, data = fetched(hub, authority, have, source=source)
    assert found.first == 0 and data == DATA


@pytest.mark.parametrize(("has_ranges", "count"), [(False, 100), (True, len(DATA) + 5)])
def test_a_server_that_cannot_go_on_there_is_asked_for_all(
    hub: Hub, authority: Authority, has_ranges: bool, count: int
) -> None:
    hub.has_ranges = has_ranges
    found, data = fetched(hub, authority, Have(count=count, sha256=hub.sha256))
    assert found.first == 0 and data == DATA


def test_a_tag_that_vouches_for_no_bytes_and_no_tag_at_all_are_not_used(hub: Hub, authority: Authority) -> None:
    for tag in ('W/"v1"', None, "v1", '"' + "x" * 300 + '"'):
        hub.tag = tag
        found, _ = fetched(hub, authority, Have(count=100, validator=None), source=f"{hub.url}/plain/a.gguf")
        assert found.validator is None and found.first == 0


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("http://cdn.example/x.gguf", "must begin with https"),
        ("https://me:word@cdn.example/x.gguf", "no user"),
        ("file:///etc/passwd", "must begin with https"),
        ("https://:443/x.gguf", "no host"),
        ("", "plain visible"),
    ],
)
def test_only_https_is_followed(hub: Hub, authority: Authority, where: str, why: str) -> None:
    hub.sends_to = where or " "
    error = refused(hub, authority)
    assert error.code == "server_redirects" and why in error.message and len(hub.asked) == 1


def test_nobody_is_sent_to_an_address_that_is_not_on_the_public_internet(hub: Hub, authority: Authority) -> None:
    keeper = Doorkeeper()
    error = refused(hub, authority, public=False, permit=keeper)
    assert error.code == "server_redirects" and "not on the public internet" in error.message
    assert len(hub.asked) == 1 and not any("cdn" in purpose and addresses for purpose, addresses, _ in keeper.asked)


def test_a_host_that_was_named_may_send_back_to_itself_wherever_it_is(hub: Hub, authority: Authority) -> None:
    hub.sends_to = "/elsewhere/tiny.gguf"
    _, data = fetched(hub, authority, public=False)
    assert data == DATA and [path for _, path, _ in hub.asked] == ["/o/r/resolve/main/tiny.gguf", hub.sends_to]


def test_a_circle_of_redirects_ends(hub: Hub, authority: Authority) -> None:
    hub.sends_to = "/o/r/resolve/main/tiny.gguf"
    assert refused(hub, authority).code == "server_redirects" and len(hub.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("place", "headers"),
    [
        ("hub", {"X-Linked-Size": "5"}),
        ("file", {"Content-Length": str(1 << 60)}),
        ("file", {"Content-Length": "0"}),
    ],
)
def test_a_length_that_is_not_what_was_said_is_an_error_before_a_byte_is_taken(
    hub: Hub, authority: Authority, place: str, headers: dict[str, str]
) -> None:
    (hub.hub_headers if place == "hub" else hub.file_headers).update(headers)
    assert refused(hub, authority).code == "server_lies"


@pytest.mark.parametrize(
    "part", ["bytes 0-9/10", "bytes 100-200/9", f"bytes 99-{len(DATA) - 1}/{len(DATA)}", "bytes */5", "a lie", ""]
)
def test_another_part_than_was_asked_for_is_an_error(hub: Hub, authority: Authority, part: str) -> None:
    hub.file_headers["Content-Range"] = part
    have = Have(count=100, total_bytes=len(DATA), sha256=hub.sha256)
    assert refused(hub, authority, have).code == "server_lies"


@pytest.mark.parametrize("headers", [{"Content-Length": ""}, {"Transfer-Encoding": "chunked"}])
def test_a_file_of_unknown_length_is_not_taken(hub: Hub, authority: Authority, headers: dict[str, str]) -> None:
    hub.file_headers |= headers
    assert refused(hub, authority).code == "server_garbled"


def test_what_a_content_network_says_of_the_hash_counts_for_nothing(hub: Hub, authority: Authority) -> None:
    hub.file_headers |= {"X-Linked-Etag": f'"{"f" * 64}"', "X-Repo-Commit": "f" * 40}
    found, _ = fetched(hub, authority)
    assert (found.sha256, found.revision) == (hub.sha256, COMMIT)
    hub.hub_headers |= {"X-Linked-Etag": "", "X-Linked-Size": ""}
    assert fetched(hub, authority)[0].sha256 is None


def test_two_hashes_of_one_host_are_an_error(hub: Hub, authority: Authority) -> None:
    hub.sends_to = "/cdn/tiny.gguf"
    hub.file_headers |= {"X-Linked-Etag": f'"{"f" * 64}"'}
    assert refused(hub, authority).code == "server_lies"


@pytest.mark.parametrize("have", [None, Have(count=100, sha256="0" * 64)])
def test_a_connection_that_is_cut_is_an_error_and_never_a_shorter_file(
    hub: Hub, authority: Authority, have: Have | None
) -> None:
    hub.cuts.append(5000)
    assert refused(hub, authority, have).code == "server_broke_off"


def test_a_server_that_falls_silent_is_given_up(hub: Hub, authority: Authority) -> None:
    hub.gate.clear()
    error = refused(hub, authority)
    assert error.code == "server_broke_off" and "nothing came" in error.message


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, EndpointError, "server_refuses"),
        (403, EndpointError, "server_refuses"),
        (404, NotFoundError, "not_found"),
        (416, EndpointError, "server_garbled"),
        (429, BusyError, "server_busy"),
        (500, EndpointError, "server_failed"),
        (204, EndpointError, "server_failed"),
    ],
)
def test_what_is_no_file_is_a_typed_error(
    hub: Hub, authority: Authority, status: int, kind: type[SwarmError], code: str
) -> None:
    hub.status = status
    error = refused(hub, authority)
    assert isinstance(error, kind) and error.code == code


def test_a_name_that_nobody_knows_and_a_certificate_for_another_are_errors(hub: Hub, authority: Authority) -> None:
    error = refused(hub, authority, source="https://nowhere.example/a.gguf")
    assert isinstance(error, UnreachableError) and error.code == "server_unreachable"
    assert refused(hub, authority, trust=None).code == "server_certificate" and not hub.asked


@pytest.mark.parametrize(
    ("address", "is_it"),
    [
        ("93.184.216.34:443", True),
        ("[2606:2800:220:1::1]:443", True),
        ("127.0.0.1:443", False),
        ("10.1.2.3:443", False),
        ("172.16.0.1:443", False),
        ("192.168.1.1:443", False),
        ("169.254.169.254:80", False),
        ("100.64.0.1:443", False),
        ("0.0.0.0:443", False),
        ("224.0.0.251:443", False),
        ("255.255.255.255:443", False),
        ("[::1]:443", False),
        ("[fe80::1%eth0]:443", False),
        ("[fd00::1]:443", False),
        ("[ff02::fb]:443", False),
        ("[::ffff:192.168.1.1]:443", False),
        ("[::ffff:93.184.216.34]:443", True),
        ("[2002:c0a8:101::1]:443", False),
        ("[64:ff9b::c0a8:101]:443", False),
        ("[64:ff9b::5db8:d822]:443", True),
        ("[4000::1]:443", False),
        ("198.18.0.1:443", False),
        ("240.0.0.1:443", False),
        ("[2001:0:1::1]:443", False),
    ],
)
def test_which_addresses_are_on_the_public_internet(address: str, is_it: bool) -> None:
    assert may_follow_to(Spot(address, "outside")) == is_it
    assert not may_follow_to(Spot(address, "LAN")), "whatever the owner calls LAN is not public"


@given(st.ip_addresses(v=4))
def test_no_private_address_is_ever_public(address: Any) -> None:
    if may_follow_to(Spot(f"{address}:443", "outside")):
        assert not (address.is_private or address.is_loopback or address.is_link_local or address.is_multicast)
