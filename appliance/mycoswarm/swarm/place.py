"""Where a peer is, proved from the address that answered: this machine, this LAN, or outside. Never believed."""

import ipaddress
import socket
from typing import Literal

import psutil

Place = Literal["this-machine", "LAN", "outside"]
PLACES: tuple[Place, ...] = ("this-machine", "LAN", "outside")  # from near to far


def place_of(address: str) -> Place:
    """Say where "host:port" (an address, not a name) is, by the networks that this machine is on now.

    LAN is on-link: inside the network of one of our interfaces, or link-local. Everything routed is outside.
    """
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        return "outside"
    if wanted.is_loopback:
        return "this-machine"
    if wanted.is_link_local:
        return "LAN"
    for listed in psutil.net_if_addrs().values():
        for each in listed:
            if each.family not in (socket.AF_INET, socket.AF_INET6) or not each.netmask:
                continue
            mine = each.address.partition("%")[0]
            if mine == str(wanted):
                return "this-machine"
            if _holds(mine, each.netmask, wanted):
                return "LAN"
    return "outside"


def _holds(mine: str, mask: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        length = int(ipaddress.ip_address(mask)).bit_count()
        return wanted in ipaddress.ip_network(f"{mine}/{length}", strict=False)
    except (ValueError, TypeError):
        return False
