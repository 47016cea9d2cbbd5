"""The guard's judgement, without its hook: tests/stage/test_fence.py puts it over processes."""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.egress import MAX_BARRED, OTHERS, Barred, Guard, Permit, packed, permit
from mycoswarm.base.errors import EgressError, InputError, TrustError

EVENTS = ("bind", "connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        yield sock


def is_open(guard: Guard, sock: socket.socket, host: str, port: int = 80, event: str = "connect") -> bool:
    try:
        guard.check(f"socket.{event}", (sock, (host, port)))
    except EgressError:
        return False
    return True


def can_look_up(guard: Guard, host: str | bytes | None) -> bool:
    try:
        guard.check("socket.getaddrinfo", (host, 80, 0, 0, 0))
    except EgressError:
        return False
    return True


def test_a_refusal_says_where_what_to_do_and_is_an_os_error_too(tcp: socket.socket) -> None:
    with pytest.raises(EgressError) as caught:
        Guard().check("socket.connect", (tcp, ("203.0.113.7", 443)))
    assert caught.value.message == str(caught.value) == "this process may not connect to 203.0.113.7:443"
    assert isinstance(caught.value, TrustError) and isinstance(caught.value, PermissionError)
    assert caught.value.hint.startswith("Name the machine in `peers`") and caught.value.code == "egress_refused"


def test_an_address_is_open_however_it_is_written_and_at_its_port_alone(tcp: socket.socket) -> None:
    addresses = ["192.168.1.5:6927", "[fe80::1%eth0]:6927", "10.1.2.3", "::ffff:10.1.2.4", "2001:DB8:0::7"]
    guard = Guard()
    with guard.permitted("nodes", addresses=addresses):
        for host in ("192.168.1.5", "::ffff:192.168.1.5", "::FFFF:c0a8:105", "192.168.261", "0xc0a80105"):
            assert is_open(guard, tcp, host, 6927), host
            assert not is_open(guard, tcp, host, 6928), host
        for host in ("fe80::1", "fe80::1%eth0", "fe80::1%2", "FE80:0:0::1"):
            assert is_open(guard, tcp, host, 6927), host
        for host in ("10.1.2.3", "10.1.2.4", "2001:db8::7"):
            assert is_open(guard, tcp, host, 1) and is_open(guard, tcp, host, 65535), host
        assert not is_open(guard, tcp, "10.1.2.5")
    assert not is_open(guard, tcp, "192.168.1.5", 6927)


@given(st.ip_addresses())
def test_every_way_to_write_an_address_is_one_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    raw = packed(str(address))
    assert raw is not None and packed(address.exploded) == raw
    if isinstance(address, ipaddress.IPv4Address):
        assert packed(f"::ffff:{address}") == packed(hex(int(address))) == packed(str(int(address))) == raw
    else:
        assert packed(str(address).upper()) == packed(f"{address.exploded}%eth0") == raw


@pytest.mark.parametrize(
    "host", ["", "a", "1.2.3.4 x", "1.2.3.4\0", "1.2.3.4.5", "fe80", "::1::", "0x", "x", "\udc80", "１.2.3.4"]
)
def test_what_is_no_address_is_a_name(host: str) -> None:
    assert packed(host) is None


@given(st.text(max_size=40))
def test_any_text_is_a_permit_or_an_input_error(text: str) -> None:
    try:
        assert isinstance(permit("p", addresses=[text]), Permit)
    except InputError:
        assert packed(text) is None


def test_a_name_opens_its_look_up_and_no_connection(tcp: socket.socket) -> None:
    guard = Guard()
    with guard.permitted("endpoint x", names=["API.example."], addresses=["node.example:6927"]):
        assert (
            can_look_up(guard, "api.EXAMPLE")
            and can_look_up(guard, b"api.example.")
            and can_look_up(guard, "node.example")
        )
        assert not can_look_up(guard, "www.api.example") and not can_look_up(guard, "example")
        assert not is_open(guard, tcp, "api.example") and not is_open(guard, tcp, "node.example", 6927)
    assert not can_look_up(guard, "api.example")
    for host in (None, "", "localhost", "LOCALHOST.", "127.0.0.1", "203.0.113.9", "fe80::1%eth0", b"::1"):
        assert can_look_up(guard, host), host


def test_the_name_of_a_number_is_asked_only_for_this_machine_and_permitted_addresses() -> None:
    guard = Guard()
    for event, arguments in (
        ("socket.gethostbyaddr", ("203.0.113.9",)),
        ("socket.gethostbyaddr", ("stranger.test",)),
        ("socket.getnameinfo", (("203.0.113.9", 80),)),
    ):
        with pytest.raises(EgressError):
            guard.check(event, arguments)
    guard.check("socket.getnameinfo", (("127.0.0.1", 80),))
    with guard.permitted("node", addresses=["203.0.113.9:80"]):
        guard.check("socket.gethostbyaddr", ("203.0.113.9",))


def test_what_stands_is_asked_at_every_look(tcp: socket.socket) -> None:
    guard, roster = Guard(), list[str]()
    guard.stand(lambda: [permit("adopted nodes", addresses=tuple(roster))])
    assert not is_open(guard, tcp, "10.0.0.1")
    roster.append("10.0.0.1")
    assert is_open(guard, tcp, "10.0.0.1") and [each.purpose for each in guard.permits()] == ["adopted nodes"]
    roster.clear()
    assert not is_open(guard, tcp, "10.0.0.1")


def test_permits_that_cannot_be_read_open_nothing_and_are_told(tcp: socket.socket) -> None:
    guard = Guard(clock=lambda: 5.0)
    guard.stand(lambda: [permit("broken", addresses=["no address"])])
    guard.stand(lambda: [permit("sound", addresses=["10.0.0.2"])])
    assert is_open(guard, tcp, "10.0.0.2")
    (told,) = guard.drain()
    assert told.kind == "read permits" and "InputError" in told.where


def test_one_permit_that_ends_leaves_the_same_one_of_another_open(tcp: socket.socket) -> None:
    guard = Guard()
    with guard.permitted("one", addresses=["10.0.0.1"]):
        with guard.permitted("other", addresses=["10.0.0.1"]), pytest.raises(KeyError):
            raise KeyError
        assert is_open(guard, tcp, "10.0.0.1")
    assert not is_open(guard, tcp, "10.0.0.1") and guard.permits() == []


def test_refusals_are_counted_by_where_they_led_until_they_are_taken(tcp: socket.socket) -> None:
    moments = iter([1.0, 2.0, 3.0])
    guard = Guard(clock=lambda: next(moments))
    assert not is_open(guard, tcp, "10.0.0.1") and not is_open(guard, tcp, "10.0.0.1")
    assert not can_look_up(guard, "stranger.test")
    assert guard.drain() == (
        Barred("connect", "10.0.0.1:80", 2, 1.0, 2.0),
        Barred("look up", "stranger.test", 1, 3.0, 3.0),
    )
    assert guard.drain() == ()


def test_a_flood_of_refusals_stays_small_and_is_counted_to_the_last(tcp: socket.socket) -> None:
    guard = Guard()
    for number in range(3 * MAX_BARRED):
        assert not is_open(guard, tcp, "10.0.0.1", number)
    barred = guard.drain()
    assert len(barred) == MAX_BARRED + 1 and sum(each.count for each in barred) == 3 * MAX_BARRED
    assert barred[-1].where == OTHERS
    assert not can_look_up(guard, "ü" * 9999 + "\n")
    (long,) = guard.drain()
    assert long.where.isascii() and len(long.where) <= 255


def test_refusals_in_many_threads_lose_no_place(tcp: socket.socket) -> None:
    guard = Guard()
    seen: set[str] = set()

    def knock(start: int) -> None:
        for port in range(start, start + 50):
            is_open(guard, tcp, "10.0.0.1", port)

    threads = [threading.Thread(target=knock, args=(50 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen |= {each.where for each in guard.drain()}
    seen |= {each.where for each in guard.drain()}
    assert seen == {f"10.0.0.1:{port}" for port in range(200)}


def test_mdns_is_open_to_its_groups_and_for_answers_on_the_link(udp: socket.socket, tcp: socket.socket) -> None:
    asked = []

    def is_on_link(host: str) -> bool:
        asked.append(host)
        return host.startswith("192.168.1.")

    guard = Guard(is_on_link=is_on_link)
    assert is_open(guard, udp, "224.0.0.251", 5353, "sendto")
    assert not is_open(guard, udp, "224.0.0.251", 5354, "sendto") and not is_open(guard, tcp, "224.0.0.251", 5353)
    assert not is_open(guard, udp, "192.168.1.9", 40000, "sendto") and asked == []  # no socket of multicast DNS
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp6:
        guard.check("socket.sendto", (udp6, ("ff02::fb", 5353, 0, 3)))
        guard.check("socket.sendmsg", (udp6, ("ff02::fb%3", 5353, 0, 3)))
        assert not is_open(guard, udp6, "ff05::fb", 5353, "sendto")
    with socket.socket(type=socket.SOCK_DGRAM) as answering:
        answering.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        answering.bind(("127.0.0.1", 5353))
        assert is_open(guard, answering, "192.168.1.9", 40000, "sendto")
        assert not is_open(guard, answering, "203.0.113.9", 40000, "sendto")
        assert not is_open(guard, answering, "192.168.1.9", 40000, "connect")
    assert asked == ["192.168.1.9", "203.0.113.9"]


def test_a_socket_that_is_connected_sends_and_other_families_do_not(udp: socket.socket) -> None:
    guard = Guard()
    guard.check("socket.sendmsg", (udp, None))
    guard.check("socket.bind", (udp, ("0.0.0.0", 0)))
    with socket.socket(socket.AF_UNIX) as unix:
        guard.check("socket.connect", (unix, "/nowhere"))
    guard.check("os.listdir", ("/",))


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.binary(max_size=20) | st.sampled_from(["127.0.0.1", "::1"]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=6,
)


@given(st.sampled_from(EVENTS), st.lists(anything, max_size=6), st.booleans())
def test_whatever_an_event_holds_nothing_but_a_refusal_comes_out(event: str, rest: list[Any], has_sock: bool) -> None:
    with socket.socket() as sock:
        try:
            Guard().check(f"socket.{event}", (sock, *rest) if has_sock else tuple(rest))
        except EgressError as exc:
            assert len(exc.message) < 400


@pytest.mark.parametrize(
    "judge", [lambda guard: is_open(guard, _never(), "10.0.0.1"), lambda guard: can_look_up(guard, "a")]
)
def test_nothing_but_a_refusal_comes_out_of_a_source_that_breaks(judge: Callable[[Guard], bool]) -> None:
    guard = Guard(is_on_link=lambda host: 1 / 0 > 0)
    guard.stand(lambda: 1 / 0)  # type: ignore[arg-type,return-value]  # it raises
    assert not judge(guard)


def _never() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock
