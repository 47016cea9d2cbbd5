"""Addresses: what a node tells of itself, and what it must dial."""

import pytest

from mycoswarm.base.errors import InputError, SettingError
from mycoswarm.swarm.address import Interface, advertised, chosen, interfaces, scoped

ETH = (Interface("eth0", 2, "192.168.1.5"), Interface("eth0", 2, "fe80::5"), Interface("wlan0", 3, "fe80::6"))


def test_a_card_lists_all_addresses_unless_the_owner_names_others() -> None:
    assert advertised(ETH, 6927) == ("192.168.1.5:6927", "[fe80::5]:6927", "[fe80::6]:6927")
    override = ("box.lan", "fd00::1", "10.0.0.1:7000")
    assert advertised(ETH, 6927, override=override) == ("box.lan:6927", "[fd00::1]:6927", "10.0.0.1:7000")
    with pytest.raises(InputError):
        advertised(ETH, 6927, override=("not an address",))


def test_a_link_local_address_is_dialled_on_each_of_our_own_interfaces() -> None:
    addresses = ("192.168.1.9:6927", "[fe80::9]:6927", "[fe80::9%7]:6927", "[fd00::9]:6927")
    assert scoped(addresses, ETH) == (
        "192.168.1.9:6927",
        "[fe80::9%eth0]:6927",
        "[fe80::9%wlan0]:6927",
        "[fe80::9%7]:6927",
        "[fd00::9]:6927",
    )


def test_this_machine_has_addresses_and_no_container_bridge_among_them() -> None:
    found = interfaces()
    assert found and not any(each.name.startswith(("docker", "veth", "br-", "virbr")) for each in found)
    assert [each.address for each in chosen(["127.0.0.1"])] == ["127.0.0.1"]
    with pytest.raises(SettingError, match=r"203\.0\.113\.1"):
        chosen(["203.0.113.1"])
