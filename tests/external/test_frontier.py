"""Which addresses are the internet's."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.external.frontier import is_public


@pytest.mark.parametrize("host", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(host: str) -> None:
    assert is_public(host)


INNER = [
    *(
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
    ),
    *("100.64.0.1", "100.127.255.254", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9"),
    *("192.88.99.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
]


@pytest.mark.parametrize("host", INNER)
def test_an_address_of_no_public_network_is_not_in_any_of_its_forms(host: str) -> None:
    number = int(ipaddress.IPv4Address(host))
    assert not is_public(host)
    for prefix in ("::ffff:0:0", "::", "64:ff9b::", "64:ff9b:1::", "2002::"):
        six = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number)
        assert not is_public(str(six)), six
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)))


@pytest.mark.parametrize(
    "host",
    [
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd77::1",
            "ff02::fb",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
        ),
        *("100::1", "fec0::1", "2606:4700::1111%eth0", "example.org", "127.1", "0x7f000001", "2130706433", ""),
    ],
)
def test_neither_is_any_other(host: str) -> None:
    assert not is_public(host)


@given(st.ip_addresses())
def test_every_address_has_an_answer_and_no_private_one_is_public(found: ipaddress.IPv4Address) -> None:
    assert not (is_public(str(found)) and found.is_private and "64:ff9b:" not in str(found))
