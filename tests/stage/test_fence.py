"""The egress guard's cases under every event loop that the product uses: what may leave a process, and what does not.

"Outside" is 127.0.0.2, 127.0.0.3 and ::1, to a guard that takes only 127.0.0.1 for this machine; where network
namespaces can be made, it is a machine behind a default route, and the only DNS server there is.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from networks import inside, lay_network, why_not

OUTLAW = Path(__file__).parents[1] / "outlaw.py"
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "fenced"])

# way -> what its trap listens with
TCP = ("sock_connect", "sock_connect_ex", "create_connection", "by_http_client", "by_urllib", "loop_create_connection")
UDP = ("sock_sendto", "sock_sendto_flags", "sock_sendmsg", "datagram_connect")
LOOP_UDP = ("loop_datagram_remote", "loop_datagram_sendto")
WAYS = dict.fromkeys((*TCP, "loop_sock_connect"), "tcp") | dict.fromkeys((*UDP, *LOOP_UDP), "udp")
LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "loop_getaddrinfo")
NAMED = (*LOOK_UPS, *TCP, "loop_sock_connect", *UDP, "loop_datagram_remote", "bind_to_name", "loop_create_server")


@dataclass(frozen=True)
class Outside:
    """Where the traps are. `spellings` are other ways to write `host`."""

    host: str
    other: str
    host6: str | None
    spellings: tuple[str, ...] = ()
    before_try: tuple[str, ...] = ()
    before_trap: tuple[str, ...] = ()


NEAR = Outside("127.0.0.2", "127.0.0.3", "::1", ("127.2", "0x7f000002", "::ffff:127.0.0.2", "::ffff:7f00:2"))


class Traps:
    """Listening sockets in a process of their own, one for each key."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.ports: dict[str, int] = self._read()

    def arrived(self) -> dict[str, str]:
        """By key, what has come."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, str]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def traps(told: dict[str, tuple[str, str]], before: Sequence[str] = ()) -> Iterator[Traps]:
    command = [*before, sys.executable, str(OUTLAW), "trap", json.dumps(told)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment()) as process:
        try:
            yield Traps(process)
        finally:
            process.kill()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ":".join(sys.path), "no_proxy": "*"}


def attempt(
    loop: str,
    cases: dict[str, tuple[str, str, int]],
    *,
    addresses: Sequence[str] = (),
    names: Sequence[str] = (),
    guarded: bool = True,
    is_narrow: bool = True,
    before: Sequence[str] = (),
) -> dict[str, str]:
    """How each way out ended; a socket that leaks fails the test."""
    told = {"cases": cases, "addresses": addresses, "names": names, "guarded": guarded, "is_narrow": is_narrow}
    command = [*before, sys.executable, "-W", "error", str(OUTLAW), "try", loop, json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    ended: dict[str, str] = json.loads(done.stdout)
    return ended


def refused_cases(outside: Outside) -> dict[str, tuple[str, str, str]]:
    """key -> way, kind of trap, where it goes."""
    cases = {way: (way, kind, outside.host) for way, kind in WAYS.items()}
    cases["wrong port"] = ("sock_connect", "tcp", outside.other)
    if outside.host6:
        cases["IPv6"] = ("sock_connect", "tcp", outside.host6)
        cases["IPv6 datagram"] = ("sock_sendto", "udp", outside.host6)
    return cases | {text: ("sock_connect", "tcp", text) for text in outside.spellings}


def run_refused(loop: str, outside: Outside, *, guarded: bool) -> tuple[dict[str, str], dict[str, str]]:
    cases = refused_cases(outside)
    listened = {key: outside.host if key in outside.spellings else host for key, (_, _, host) in cases.items()}
    told = {key: (kind, listened[key]) for key, (_, kind, _) in cases.items()}
    with traps(told, outside.before_trap) as caught:
        ended = attempt(
            loop,
            {key: (way, host, caught.ports[key]) for key, (way, _, host) in cases.items()},
            addresses=[f"{outside.other}:1"],
            guarded=guarded,
            is_narrow=outside is NEAR,
            before=outside.before_try,
        )
        return ended, caught.arrived()


@pytest.mark.slow
@LOOPS
def test_nothing_reaches_a_place_that_no_permit_names(loop: str) -> None:
    ended, arrived = run_refused(loop, NEAR, guarded=True)
    assert set(ended.values()) == {"refused"}, ended
    assert arrived == {}


@pytest.mark.slow
def test_without_a_guard_every_one_of_these_ways_leads_to_its_trap() -> None:
    ended, arrived = run_refused("asyncio", NEAR, guarded=False)
    assert set(ended.values()) == {"done"}, ended
    assert set(arrived) == set(refused_cases(NEAR))


@pytest.mark.slow
@LOOPS
def test_this_machine_and_what_a_permit_names_are_reached(loop: str) -> None:
    ways = {way: kind for way, kind in WAYS.items() if loop == "asyncio" or way not in LOOP_UDP}
    told = {f"{way} {host}": (kind, host) for way, kind in ways.items() for host in ("127.0.0.1", "127.0.0.2")}
    told |= {f"zero {kind}": (kind, "127.0.0.1") for kind in ("tcp", "udp")}
    with traps(told) as caught:
        cases = {key: (*key.split(), caught.ports[key]) for key in told if not key.startswith("zero")}
        cases["zero tcp"] = ("sock_connect", "0.0.0.0", caught.ports["zero tcp"])
        cases["zero udp"] = ("sock_sendto", "", caught.ports["zero udp"])
        others = {
            "unix": ("unix_socket", "", 0),
            "mDNS": ("mdns", "", 5353),
            "localhost": ("getaddrinfo", "localhost", 1),
            "no look-up": ("loop_getaddrinfo", "203.0.113.9", 1),
            "server": ("loop_create_server", "127.0.0.1", 0),
            "back": ("loop_getnameinfo", "127.0.0.1", 1),
        }
        ended = attempt(loop, cases | others, addresses=[f"127.0.0.2:{caught.ports[key]}" for key in told])
        assert set(ended.values()) == {"done"}, ended
        assert set(caught.arrived()) == set(told)


@pytest.mark.slow
@LOOPS
def test_names_other_families_and_uvloops_datagrams_are_refused(loop: str) -> None:
    cases = {way: (way, "stranger.test", 9) for way in NAMED}
    cases |= {way + " back": (way, "203.0.113.9", 9) for way in ("gethostbyaddr", "getnameinfo", "loop_getnameinfo")}
    cases["broadcast"] = ("sock_sendto", "<broadcast>", 9)
    cases["mDNS elsewhere"] = ("mdns", "", 5354)
    if sys.platform == "linux" and os.geteuid() == 0:
        cases["packets"] = ("packet_socket", "", 0)
    if loop == "fenced":
        cases |= {way: (way, "127.0.0.1", 9) for way in LOOP_UDP}
    ended = attempt(loop, cases, names=["friend.test"])
    assert set(ended.values()) == {"refused"}, ended


@pytest.mark.slow
@pytest.mark.root
@LOOPS
def test_a_trap_behind_a_default_route_hears_nothing_and_dns_is_asked_only_for_permitted_names(
    loop: str, tmp_path: Path
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 10.77.0.2\noptions timeout:1 attempts:1\n")
    with ExitStack() as stack:
        here, there = lay_network(stack, 2)
        for space, *words in (
            (here, "route", "add", "default", "via", "10.77.0.2"),
            (here, "-6", "route", "add", "default", "via", "fd77::2"),
            (there, "addr", "add", "203.0.113.7/32", "dev", "lo"),
            (there, "addr", "add", "203.0.113.8/32", "dev", "lo"),
            (there, "addr", "add", "2001:db8::7/128", "dev", "lo", "nodad"),
        ):
            subprocess.run(["ip", "-n", space, *words], check=True, capture_output=True, timeout=10)
        bound = ("sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolver))
        outside = Outside(
            "203.0.113.7", "203.0.113.8", "2001:db8::7", ("::ffff:203.0.113.7",), (*inside(here), *bound), inside(there)
        )
        ended, arrived = run_refused(loop, outside, guarded=True)
        assert set(ended.values()) == {"refused"} and arrived == {}, (ended, arrived)
        ended, arrived = run_refused("asyncio", outside, guarded=False)
        assert set(arrived) == set(refused_cases(outside)), ended  # the way there is open
        with traps({"dns": ("udp:53", "10.77.0.2")}, outside.before_trap) as caught:
            strangers = {way: (way, "stranger.test", 9) for way in NAMED}
            ended = attempt(loop, strangers, names=["friend.test"], before=outside.before_try)
            assert set(ended.values()) == {"refused"} and caught.arrived() == {}, ended
            attempt(
                loop,
                {"friend": ("loop_getaddrinfo", "friend.test", 9)},
                names=["friend.test"],
                before=outside.before_try,
            )
            assert "friend" in caught.arrived()["dns"]
