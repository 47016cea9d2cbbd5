"""The small door in the packet filter: addresses that the node asks for are let through, for a short while.

The daemon's egress guard has said yes before it asks; what it permits is not judged again. Here is judged who asks
(root, or the very process that answers at the owner's socket: no stage, reader or tool) and what: one line of JSON
with a known word and numeric addresses with TCP ports, none of which may be this machine's, a link's or a group's.
The elements time out in the kernel. Each opening stands in the journal.
"""

import contextlib
import ipaddress
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import machine
from machine import Trouble

PURPOSES = ("endpoint", "pull", "server", "page", "search")  # what the daemon's `outward` knows
HELD_S = 60.0  # longer than the daemon takes to connect; what is connected stays so
ASK_BYTES = 4096  # 32 of the longest addresses take 1,800
MAX_WAYS = 32  # that one asks for; no name of the daemon's leads to more
MAX_CLIENTS = 8  # that are listened to at a time
MAX_WAITING = 64
CLIENT_S = 2.0  # from connecting to the end of the line
NFT_S = 5.0

Way = tuple[str, int]  # an address and a TCP port
Peer = tuple[int, int, int]  # process, user and group


def listening(path: Path) -> socket.socket:
    """Listen at a path, for its user and group. `umask` is the whole process's."""
    path.unlink(missing_ok=True)
    before = os.umask(0o117)
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(MAX_WAITING)
    return listener


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a Unix socket: who connected, or who made it listen."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid, gid


def may_ask(peer: Peer, node_uid: int | None, owner: Path) -> bool:
    """Whether that is root, or the node's own daemon. `owner`: the socket that the daemon listens at."""
    if peer[1] == 0:
        return True
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        sock.connect(str(owner))
        return peer[1] == node_uid and peer == peer_of(sock)
    return False


def read_ask(line: bytes) -> tuple[str, list[Way]]:
    """What is asked for: a purpose, and addresses in their one form. Pure.

    Raises:
        Trouble: it is no such line, or one of the addresses is never let through.
    """
    try:
        told = json.loads(line)
        purpose, given = told["purpose"], told["ways"]
        if purpose not in PURPOSES or len(told) != 2:
            raise ValueError
        ways = {_way(*one) for one in given}
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise Trouble("that is no question") from exc
    if not 0 < len(given) <= MAX_WAYS:
        raise Trouble(f"at most {MAX_WAYS} addresses, and at least one, are let through at a time")
    return purpose, sorted(ways)


def _way(host: str, port: int) -> Way:
    if type(host) is not str or type(port) is not int or not 0 < port < 65536 or "%" in host:
        raise ValueError
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise Trouble("one of the addresses is this machine's, a link's or a group's")
    return str(address), port


def script(ways: Iterable[Way], held_s: float) -> str:
    """What nft is given: each element anew, as no older kernel gives a present one more time. Pure."""
    lines = []
    for host, port in ways:
        name = f"inet mycoswarm asked{ipaddress.ip_address(host).version}"
        fresh = f"add element {name} {{ {host} . {port} timeout {round(held_s * 1000)}ms }}"
        lines += [fresh, f"delete element {name} {{ {host} . {port} }}", fresh]
    return "\n".join(lines) + "\n"


@dataclass
class Client:
    """One who is being listened to, at most until `until_s`."""

    sock: socket.socket
    until_s: float
    heard: bytes = b""


class Wicket:
    """Listens, one line from each. No client can hold it up: it waits for none, and for a short time for nft alone."""

    def __init__(
        self,
        listener: socket.socket,
        may_ask: Callable[[Peer], bool],
        *,
        held_s: float = HELD_S,
        client_s: float = CLIENT_S,
    ) -> None:
        self._listener, self._may_ask, self._held_s, self._client_s = listener, may_ask, held_s, client_s
        self._clients: dict[int, Client] = {}
        self._until: dict[Way, float] = {}
        listener.setblocking(False)

    def serve(self) -> None:
        """Go on for ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for something to happen, and see to it."""
        room = [self._listener] if len(self._clients) < MAX_CLIENTS else []
        wait_s = min((each.until_s for each in self._clients.values()), default=None)
        limit_s = None if wait_s is None else max(0.0, wait_s - time.monotonic())
        ready, _, _ = select.select([*room, *self._clients], [], [], limit_s)
        for one in ready:
            # Whoever goes away in the middle, and what comes of that, concerns nobody else.
            with contextlib.suppress(OSError):
                if one is self._listener:
                    self._admit()
                else:
                    self._hear(one)
        for number, client in list(self._clients.items()):
            if client.until_s <= time.monotonic():
                self._leave(number)

    def _admit(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        peer = peer_of(sock)
        if self._may_ask(peer):
            self._clients[sock.fileno()] = Client(sock, time.monotonic() + self._client_s)
            return
        print(f"refused: process {peer[0]} of user {peer[1]} is not the node's daemon", file=sys.stderr, flush=True)
        with sock, contextlib.suppress(OSError):
            sock.send(_worded({"refused": "only the node's daemon is listened to"}))

    def _hear(self, number: int) -> None:
        client = self._clients[number]
        try:
            data = client.sock.recv(ASK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.heard += data
        line, end, _ = client.heard.partition(b"\n")
        if end or len(client.heard) >= ASK_BYTES:
            told = self._answer(line if len(line) < ASK_BYTES else b"")
            with contextlib.suppress(OSError):
                client.sock.send(_worded(told))
        if end or not data or len(client.heard) >= ASK_BYTES:
            self._leave(number)

    def _leave(self, number: int) -> None:
        self._clients.pop(number).sock.close()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            purpose, ways = read_ask(line)
            self._open(purpose, ways)
        except Trouble as exc:
            print(f"refused: {exc}", file=sys.stderr, flush=True)
            return {"refused": str(exc)}
        return {"open_s": self._held_s / 2}

    def _open(self, purpose: str, ways: list[Way]) -> None:
        """Have the kernel let these through. One that has half of its time left is let be: endpoints are asked for
        with each request."""
        now = time.monotonic()
        self._until = {way: until for way, until in self._until.items() if until > now}
        due = [way for way in ways if self._until.get(way, 0.0) - now < self._held_s / 2]
        if not due:
            return
        try:
            machine.run("nft", "-f", "-", limit_s=NFT_S, given=script(due, self._held_s).encode())
        except Trouble as exc:
            print(exc, file=sys.stderr, flush=True)
            raise Trouble("nft did not take it") from exc  # its words name addresses, which errors of tools do not
        self._until |= dict.fromkeys(due, now + self._held_s)
        for host, port in due:
            print(f"let through for {self._held_s:g} s, for {purpose}: {host} port {port}", flush=True)


def _worded(told: dict[str, object]) -> bytes:
    return json.dumps(told).encode() + b"\n"
