"""Where a peer is, proved from the address that answered: this machine, this LAN, or outside. Never believed."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

Place = Literal["this-machine", "LAN", "outside"]
PLACES: tuple[Place, ...] = ("this-machine", "LAN", "outside")  # ever further away


@dataclass(frozen=True, slots=True)
class Network:
    """An address of this machine with its netmask. `is_tunnel`: what is behind it is a VPN's or a provider's."""

    address: str
    mask: str
    is_tunnel: bool = False


def place_of(address: str, named: Sequence[str] = ()) -> Place:
    """Say where "host:port" (an address, not a name) is, by the networks that this machine is on now.

    LAN is on-link: inside the network of one of our interfaces, or link-local. Everything routed is outside, and so is
    everything behind a tunnel, whatever network it pretends to be; but for `named` networks ("10.8.0.0/24"), which
    the owner calls LAN.
    """
    return place_among(address, _networks(), named)


def place_among(address: str, networks: Iterable[Network], named: Sequence[str] = ()) -> Place:
    """Say the same by given networks."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        return "outside"
    if isinstance(wanted, ipaddress.IPv6Address) and wanted.ipv4_mapped is not None:
        wanted = wanted.ipv4_mapped  # as a listener for both families shows its IPv4 peers
    if wanted.is_loopback:
        return "this-machine"
    known = tuple(networks)
    if any(each.address == str(wanted) for each in known):
        return "this-machine"
    if wanted.is_link_local or any(_holds(each, wanted) for each in known if not each.is_tunnel):
        return "LAN"
    return "LAN" if any(wanted in ipaddress.ip_network(each) for each in named) else "outside"


def _networks() -> list[Network]:
    stats = psutil.net_if_stats()
    return [
        Network(each.address.partition("%")[0], each.netmask, "pointopoint" in stats[name].flags)
        for name, listed in psutil.net_if_addrs().items()
        for each in listed
        if each.family in (socket.AF_INET, socket.AF_INET6) and each.netmask and name in stats and stats[name].isup
    ]


def _holds(network: Network, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        length = int(ipaddress.ip_address(network.mask)).bit_count()
        # A mask without bits would make the whole internet our LAN.
        return length > 0 and wanted in ipaddress.ip_network(f"{network.address}/{length}", strict=False)
    except (ValueError, TypeError):
        return False
