"""Where a node listens and what it is called."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycoswarm.api.gate import host_of
from mycoswarm.base.errors import SetupError, StorageError
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.site import Site


def site(folder: Path, ports: dict[str, int] | None = None, **settings: object) -> Site:
    """A site of these settings."""
    given = {"peer": "127.0.0.1:0", "console": "127.0.0.1:0", **settings}
    return Site(Settings(data_folder=folder, **given), {} if ports is None else ports)  # type: ignore[arg-type]  # each of its kind


@contextlib.contextmanager
def closed_after(sockets: tuple[socket.socket, ...]) -> Iterator[tuple[socket.socket, ...]]:
    """Close them at the end."""
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def test_a_port_that_was_chosen_freely_stays_when_the_node_is_built_anew(tmp_path: Path) -> None:
    ports: dict[str, int] = {}
    first = site(tmp_path, ports)
    assert first.peer_port == 0
    with closed_after(first.bind_peer()), closed_after(first.bind_console()):
        taken = dict(ports)
        door = first.door_port()
        assert door == first.door_port() and door not in taken.values()
        with pytest.raises(SetupError, match="already in use"):
            site(tmp_path, ports).bind_peer()
    again = site(tmp_path, ports)
    with closed_after(again.bind_peer()) as sockets, closed_after(again.bind_console()):
        assert sockets[0].getsockname()[1] == again.peer_port == taken["peer"]
        assert ports == {**taken, "door": door} and again.door_port() == door


def test_addresses_of_a_node_bound_to_one_address(tmp_path: Path) -> None:
    one = site(tmp_path, {"peer": 7, "console": 8})
    assert one.hosts == one.stage_hosts() == ("127.0.0.1",)
    assert one.addresses() == ("127.0.0.1:7",) and one.own_address() == "127.0.0.1:7"
    assert one.console_address() == "127.0.0.1:8"


@pytest.mark.parametrize(("host", "local"), [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")])
def test_all_addresses_is_no_address_to_dial(tmp_path: Path, host: str, local: str) -> None:
    every = site(tmp_path, {"peer": 7, "console": 8}, peer=f"{host}:7", console=f"{host}:8")
    assert every.own_address() == f"{local}:7" and every.console_address() == f"{local}:8"
    assert every.addresses() and every.stage_hosts()
    assert not [text for text in every.addresses() if text.startswith(("0.0.0.0", "[::]"))]
    assert not {"", "0.0.0.0", "::"} & every.names("pi")


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("attic.home", "attic.home"),
        ("Attic.Home:6926", "attic.home"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:6927", "10.1.2.3"),
        ("fd00::7", "fd00::7"),
        ("[fd00::7]:6927", "fd00::7"),
    ],
)
def test_the_console_answers_to_what_is_advertised_however_it_is_written(tmp_path: Path, said: str, host: str) -> None:
    names = site(tmp_path, advertise=(said,)).names("pi")
    written = f"[{host}]:6926" if ":" in host else f"{host}:6926"
    assert host in names and host_of(written) in names
    assert {"localhost", "127.0.0.1", "::1", "pi", "pi.local"} <= names


def test_the_console_answers_to_its_own_address_when_peers_come_in_at_another(tmp_path: Path) -> None:
    assert "192.0.2.9" in site(tmp_path, console="192.0.2.9:6926").names("pi")


def test_the_owners_socket_is_the_owners_and_replaces_what_a_killed_daemon_left(tmp_path: Path) -> None:
    one = site(tmp_path)
    for _ in range(2):
        with one.bind_owner():
            assert one.owner_path.stat().st_mode & 0o777 == 0o600


def test_a_folder_with_too_long_a_path_is_said(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    with pytest.raises(StorageError, match="cannot be made") as caught:
        site(deep).bind_owner()
    assert "shorter path" in caught.value.hint
