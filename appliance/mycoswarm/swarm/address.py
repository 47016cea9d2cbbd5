"""The addresses that this machine can be reached at, and those of others as this machine must dial them."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped,unused-ignore]  # the package has no types

from mycoswarm.base.errors import InputError, SettingError
from mycoswarm.swarm.dial import Address, parse_address

# Names that container engines and hypervisors give to bridges that lead nowhere outside the machine.
_INNER = re.compile(r"(docker|veth|br-|virbr|vnet|cni|flannel|cali|podman|lxc|lxd|vmnet|vboxnet)")


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of one network interface. `index` is the interface's number, which IPv6 scopes need."""

    name: str
    index: int
    address: str

    @property
    def is_ipv6(self) -> bool:
        """Whether the address is an IPv6 one."""
        return ":" in self.address

    @property
    def is_link_local(self) -> bool:
        """Whether it is an IPv6 address that means something on its own network only, so that it needs a scope."""
        return _is_link_local(self.address)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback


def interfaces() -> tuple[Interface, ...]:
    """List the addresses of all interfaces that are up, container bridges and tunnels left out.

    What is behind a VPN is outside (place.py): no stage listens there, unless the owner names that address.

    Loopback (127.0.0.1) is listed only where nothing else is. Each call asks the operating system
    anew: networks come and go.
    """
    stats = psutil.net_if_stats()
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        if name not in stats or not stats[name].isup or _INNER.match(name) or "pointopoint" in stats[name].flags:
            continue
        found += [
            Interface(name, _index(name), text) for text in (_plain(a.family, a.address) for a in addresses) if text
        ]
    outer = tuple(each for each in found if not each.is_loopback and _is_ready(each))
    return outer or tuple(each for each in found if each.address == "127.0.0.1")


def chosen(addresses: Iterable[str]) -> tuple[Interface, ...]:
    """Find the interfaces of the addresses or interface names that the owner named.

    Raises:
        SettingError: this machine has no such address or interface.
    """
    stats = psutil.net_if_stats()
    known = [
        Interface(name, _index(name), text)
        for name, listed in psutil.net_if_addrs().items()
        if name in stats
        for text in (_plain(a.family, a.address) for a in listed)
        if text
    ]
    found: list[Interface] = []
    for wanted in addresses:
        matching = [each for each in known if wanted in (each.name, each.address)]
        if not matching:
            raise SettingError(
                f"this machine has no address or interface {wanted!r}",
                hint="It has " + ", ".join(f"{each.address} ({each.name})" for each in known) + ".",
            )
        found += [each for each in matching if each not in found]
    return tuple(found)


def advertised(reachable: Iterable[Interface], port: int, *, override: Iterable[str] = ()) -> tuple[str, ...]:
    """Write the addresses that a card lists, as "host:port"; `override` (hosts, or whole addresses) replaces them.

    Link-local IPv6 addresses carry no scope: the dialler adds its own.

    Raises:
        InputError: an override that is no address.
    """
    replaced = tuple(override)
    if replaced:
        return tuple(_with_port(text, port) for text in replaced)
    return tuple(str(Address(each.address, port)) for each in reachable)


def scoped(addresses: Iterable[str], reachable: Iterable[Interface]) -> tuple[str, ...]:
    """Give the addresses to dial: a link-local IPv6 one without a scope once for each of our own IPv6 interfaces.

    Raises:
        InputError: one that is no address.
    """
    scopes = tuple(dict.fromkeys(each.name for each in reachable if each.is_ipv6 and not each.is_loopback))
    found: list[str] = []
    for text in addresses:
        address = parse_address(text)
        if "%" not in address.host and _is_link_local(address.host):
            found += [str(Address(f"{address.host}%{scope}", address.port)) for scope in scopes]
        else:
            found.append(str(address))
    return tuple(dict.fromkeys(found))


def _with_port(text: str, port: int) -> str:
    try:
        return str(parse_address(text))
    except InputError:
        return str(parse_address(str(Address(text.strip("[]"), port))))


def _is_link_local(host: str) -> bool:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    return parsed.version == 6 and parsed.is_link_local


def _plain(family: int, address: str) -> str | None:
    """Give an IP address without its scope; None for a link layer's."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return address.partition("%")[0]


def _is_ready(interface: Interface) -> bool:
    """Whether the address can be used yet: a fresh IPv6 one cannot until nobody has claimed it (RFC 4862, 5.4)."""
    family = socket.AF_INET6 if interface.is_ipv6 else socket.AF_INET
    address = (interface.address, 0, 0, interface.index) if interface.is_ipv6 else (interface.address, 0)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind(address)
    except OSError:
        return False
    return True


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:  # gone since the list was made
        return 0 if os.name == "posix" else -1
