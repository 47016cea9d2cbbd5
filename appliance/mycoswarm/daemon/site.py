"""Where this node listens and what it is called: sockets, ports, addresses and names, out of its settings."""

import os
import socket
from pathlib import Path

from mycoswarm.base.errors import StorageError
from mycoswarm.base.settings import Settings, split_address
from mycoswarm.swarm.address import advertised, chosen, interfaces
from mycoswarm.swarm.dial import Address
from mycoswarm.swarm.server import bind

SOCKET_NAME = "owner.sock"
WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104  # what owners write for "all addresses"


class Site:
    """`ports` remembers freely chosen ports by what they are for, so that they last as long as the daemon does."""

    def __init__(self, settings: Settings, ports: dict[str, int]) -> None:
        self._settings, self._ports = settings, ports
        self._host, _ = split_address(settings.peer, "peer")
        self._named = "" if self._host in WILDCARDS else self._host  # the one address that peers reach us at, if one

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses that peers' listeners are bound to."""
        return (self._host,) if self._host else _all_hosts()

    @property
    def peer_port(self) -> int:
        """Where the peer listener is; 0 before it is bound."""
        return self._ports.get("peer", 0)

    def bind_peer(self) -> tuple[socket.socket, ...]:
        """Bind the peer listener.

        Raises:
            SetupError: its port is taken, or may not be used.
        """
        return self._bind(self._settings.peer, "peer")

    def bind_console(self) -> tuple[socket.socket, ...]:
        """Bind the console.

        Raises:
            SetupError: its port is taken, or may not be used.
        """
        return self._bind(self._settings.console, "console")

    def bind_owner(self) -> socket.socket:
        """Bind the owner's unix socket, for this user only.

        Raises:
            StorageError: it cannot be made.
        """
        path = self.owner_path
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)  # of a daemon that was killed; the folder's lock keeps out a second live one
            listening.bind(str(path))
        except OSError as exc:
            listening.close()
            raise StorageError(
                f"the socket {path} cannot be made: {exc}",
                hint="Name a data folder with a shorter path, of at most about 90 characters.",
            ) from exc
        finally:
            os.umask(before)
        return listening

    @property
    def owner_path(self) -> Path:
        """Where the owner's socket is."""
        return self._settings.data_folder / SOCKET_NAME

    def door_port(self) -> int:
        """A free port for the enrolment door, the same for as long as the daemon runs: join tokens name it."""
        if "door" not in self._ports:
            with socket.socket() as probe:
                probe.bind((self._host if self._host and ":" not in self._host else "", 0))
                self._ports["door"] = probe.getsockname()[1]
        return self._ports["door"]

    def stage_hosts(self) -> tuple[str, ...]:
        """Addresses that stages listen on for their neighbours; link-local ones with the scope that binding needs."""
        if self._named:
            return (self._named,)
        return tuple(f"{e.address}%{e.name}" if e.is_link_local else e.address for e in interfaces())

    def addresses(self) -> tuple[str, ...]:
        """Where others reach the peer listener, "host:port"."""
        reachable = chosen((self._named,)) if self._named else interfaces()
        return advertised(reachable, self.peer_port, override=self._settings.advertise)

    def own_address(self) -> str:
        """Where this node reaches its own peer listener, "host:port"."""
        return str(Address(_local(self._host), self.peer_port))

    def console_address(self) -> str:
        """Where clients on this machine connect, "host:port"."""
        host, _ = split_address(self._settings.console, "console")
        return str(Address(_local(host), self._ports.get("console", 0)))

    def names(self, name: str) -> frozenset[str]:
        """Host names and addresses that the console answers to, for the node of this name, in small letters."""
        console, _ = split_address(self._settings.console, "console")
        own = {each.address for each in interfaces()}
        said = {_host_in(text).lower() for text in self._settings.advertise}
        return frozenset({"localhost", "127.0.0.1", "::1", name, f"{name}.local", console, *own, *said} - {*WILDCARDS})

    def _bind(self, address: str, what: str) -> tuple[socket.socket, ...]:
        host, port = split_address(address, what)
        sockets = bind([host] if host else _all_hosts(), port or self._ports.get(what, 0))
        self._ports[what] = sockets[0].getsockname()[1]
        return sockets


def _all_hosts() -> tuple[str, ...]:
    return ("::", "0.0.0.0") if _has_ipv6() else ("0.0.0.0",)  # noqa: S104  # peers come from all networks; mutual TLS guards


def _has_ipv6() -> bool:
    """Whether the kernel takes IPv6 now; Python only knows what it was built with."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::", 0))
    except OSError:
        return False
    return True


def _local(host: str) -> str:
    """The address of a listener as this machine itself reaches it."""
    if host in WILDCARDS:
        return "::1" if host == "::" else "127.0.0.1"
    return host


def _host_in(text: str) -> str:
    """The host of "host", "host:port", an IPv6 address, or one with a port in brackets."""
    if text.count(":") > 1:
        return text.partition("]")[0].removeprefix("[")
    return text.partition(":")[0]
