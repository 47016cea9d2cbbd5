"""What counts as this machine and as its LAN, for any addresses and networks."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.swarm.place import PLACES, Network, Place, place_among, place_of

HOME = Network("192.168.1.5", "255.255.255.0")
ADDRESSES = st.ip_addresses().map(lambda ip: f"[{ip}]:1" if ip.version == 6 else f"{ip}:1")
NETWORKS = st.builds(
    Network,
    address=st.ip_addresses().map(str) | st.text(),
    mask=st.ip_addresses().map(str) | st.text(),
    is_tunnel=st.booleans(),
)


@pytest.mark.parametrize(
    ("address", "network", "place"),
    [
        ("8.8.8.8:1", Network("192.168.1.5", "0.0.0.0"), "outside"),
        ("[2600::1]:1", Network("fd00::5", "::"), "outside"),
        ("[::ffff:192.168.1.9]:1", HOME, "LAN"),
        ("[::ffff:192.168.1.5]:1", HOME, "this-machine"),
        ("[::ffff:127.0.0.1]:1", HOME, "this-machine"),
        ("[::ffff:8.8.8.8]:1", HOME, "outside"),
        ("192.168.1.9:1", Network("192.168.1.5", "255.255.255.255"), "outside"),
        ("192.168.1.9:1", Network("fd00::5", "ffff::"), "outside"),
        ("192.168.1.9:1", Network("nonsense", "255.255.255.0"), "outside"),
        ("169.254.7.7:1", HOME, "LAN"),
        ("attic.local:1", HOME, "outside"),
        ("192.168.1.9", HOME, "outside"),  # without a port it is no address that answered
    ],
)
def test_places(address: str, network: Network, place: Place) -> None:
    assert place_among(address, [network]) == place


@pytest.mark.slow
@given(ADDRESSES, st.lists(NETWORKS, max_size=4))
def test_networks_that_cannot_be_never_raise_and_more_of_them_bring_nothing_further_away(
    address: str, networks: list[Network]
) -> None:
    places = [PLACES.index(place_among(address, networks[:count])) for count in range(len(networks) + 1)]
    assert places == sorted(places, reverse=True)


@given(st.ip_addresses(v=4), st.integers(1, 32))
def test_a_neighbour_is_one_whose_first_bits_are_ours(address: ipaddress.IPv4Address, length: int) -> None:
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    known = [Network(str(address), str(network.netmask))]
    for other in (network[0], network[-1]):
        expected = "this-machine" if other == address or other.is_loopback else "LAN"
        assert place_among(f"{other}:1", known) == expected


def test_this_machine_knows_itself() -> None:
    assert place_of("127.0.0.1:1") == "this-machine" and place_of("[::1]:1") == "this-machine"


def test_networks_that_the_owner_names_are_lan_and_nothing_beside_them() -> None:
    tunnel = Network("10.8.0.2", "255.255.255.0", is_tunnel=True)
    assert place_among("10.8.0.9:1", [tunnel]) == "outside"
    assert place_among("10.8.0.9:1", [tunnel], ["10.8.0.0/24", "fd00::/8"]) == "LAN"
    assert place_among("10.8.1.9:1", [tunnel], ["10.8.0.0/24"]) == "outside"
    assert place_among("[fd00::7]:1", [tunnel], ["10.8.0.0/24", "fd00::/8"]) == "LAN"
