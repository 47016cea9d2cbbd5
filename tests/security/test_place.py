"""Only what is on-link counts as this LAN; a VPN pretends to be one and is not."""

import pytest

from mycoswarm.swarm.place import Network, Place, place_among

NETWORKS = (
    Network("127.0.0.1", "255.0.0.0"),
    Network("192.168.1.5", "255.255.255.0"),
    Network("fd00::5", "ffff:ffff:ffff:ffff::"),
    Network("10.8.0.2", "255.255.255.0", is_tunnel=True),
    Network("fe80::1", "ffff:ffff:ffff:ffff::", is_tunnel=True),
)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:1", "this-machine"),
        ("192.168.1.5:1", "this-machine"),
        ("10.8.0.2:1", "this-machine"),
        ("192.168.1.77:1", "LAN"),
        ("[fd00::77]:1", "LAN"),
        ("[fe80::9%eth0]:1", "LAN"),
        ("10.8.0.1:1", "outside"),
        ("192.168.2.77:1", "outside"),
        ("attic.local:1", "outside"),
        ("", "outside"),
    ],
)
def test_a_peer_behind_a_tunnel_is_outside(address: str, place: Place) -> None:
    assert place_among(address, NETWORKS) == place
