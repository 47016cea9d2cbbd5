"""The packet filter's sets out of what networkd, resolved and the daemon say, none of which is believed."""

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import load

border = load("border")


def listed(*addresses: tuple[str, int]) -> str:
    info = [{"local": address, "prefixlen": length} for address, length in addresses]
    return json.dumps(
        [{"link_type": "loopback", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]}, {"addr_info": info}]
    )


def test_the_machines_networks_are_its_own() -> None:
    own = border.networks(listed(("192.168.7.9", 24), ("fd00::9", 64), ("fe80::9", 64), ("2001:db8::9", 64)))
    assert own == ["192.168.7.0/24", "2001:db8::/64", "fd00::/64"]


@pytest.mark.parametrize(
    ("address", "length"), [("203.0.113.9", 1), ("8.8.8.9", 15), ("10.0.0.9", 7), ("2001:db8::9", 16)]
)
def test_no_dhcp_server_opens_the_internet(address: str, length: int) -> None:
    assert border.networks(listed((address, length))) == []


def test_name_servers_are_taken_from_resolv_conf() -> None:
    text = (
        "# x\nnameserver 192.168.7.1\nnameserver fe80::1%eth0\nnameserver 127.0.0.53\nnameserver x; reboot\nsearch a\n"
    )
    assert border.resolvers(text) == ["192.168.7.1"]


def test_only_what_a_rule_names_is_opened() -> None:
    told = {
        "endpoints": [
            {"url": "https://one.example/v1", "rules": ["r"]},
            {"url": "http://192.0.2.5:8080/v1", "rules": ["r"]},
            {"url": "https://two.example/v1", "rules": []},
            {"url": "ftp://three.example/", "rules": ["r"]},
            {"url": "https://four.example:99999/", "rules": ["r"]},
            {"url": 5, "rules": ["r"]},
            "nonsense",
        ]
    }
    assert border.places(told) == [("192.0.2.5", 8080), ("one.example", 443)]
    assert border.places("nonsense") == border.places({"endpoints": 5}) == []


def test_addresses_are_looked_up_and_those_of_this_machine_are_not_opened() -> None:
    assert border.looked_up([("192.0.2.5", 8080), ("127.0.0.1", 443), ("169.254.1.1", 1), ("::1", 1)]) == [
        ("192.0.2.5", 8080)
    ]


def test_the_script_empties_each_set_and_fills_it() -> None:
    told = border.script(["192.168.7.0/24"], ["192.0.2.53", "2001:db8::53"], [("203.0.113.5", 443)])
    lines = told.splitlines()
    assert [line for line in lines if line.startswith("flush")] == [
        f"flush set inet mycoswarm {name}" for name in border.SETS
    ]
    assert "add element inet mycoswarm lan4 { 169.254.0.0/16, 192.168.7.0/24 }" in lines
    assert "add element inet mycoswarm allowed4 { 203.0.113.5 . 443 }" in lines
    assert "add element inet mycoswarm resolvers6 { 2001:db8::53 }" in lines


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["endpoints", "url", "rules"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_the_daemon_says_ends_as_hosts_and_ports(told: Any) -> None:
    for host, port in border.places(told):
        assert isinstance(host, str) and 0 < port < 65536


@given(st.lists(st.tuples(st.ip_addresses(), st.integers(1, 65535)), max_size=5))
def test_the_script_holds_addresses_and_nothing_else(ways: list[tuple[Any, int]]) -> None:
    told = border.script([], [], [(str(address), port) for address, port in ways])
    for line in told.splitlines():
        if "allowed" in line and line.startswith("add"):
            for element in line.partition("{")[2].rstrip(" }").split(","):
                address, _, port = element.strip().partition(" . ")
                assert ipaddress.ip_address(address) and int(port)
