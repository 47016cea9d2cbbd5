"""Which addresses are the internet's, open to everybody. Pure, by the number alone.

Covered: this machine, private, link-local and carrier's networks, multicast, what is reserved or for documentation,
and IPv4 addresses of these inside IPv6 ones (mapped, NAT64, 6to4, Teredo, compatible). Not covered: public addresses
that are somebody's own all the same; the caller knows its networks and nodes.
"""

import ipaddress

_PUBLIC6 = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4: what is assigned of global unicast
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is the last 32 bits
# Global by the registry's column, and still nobody's web server.
_BARRED4 = tuple(
    map(
        ipaddress.IPv4Network,
        ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_BARRED6 = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # Teredo and more, documentation, 6to4, documentation
    )
)


def is_public(host: str) -> bool:
    """Whether a numeric address is one of the internet's. A name is not, nor an address with a scope."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        if found.ipv4_mapped is not None:
            return _is_public4(found.ipv4_mapped)
        if found in _NAT64:
            return _is_public4(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        return found in _PUBLIC6 and found.is_global and not any(found in each for each in _BARRED6)
    return _is_public4(found)


def _is_public4(found: ipaddress.IPv4Address) -> bool:
    return found.is_global and not found.is_multicast and not any(found in each for each in _BARRED4)
