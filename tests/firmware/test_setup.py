"""What mycoswarm.txt asked for lands on the data partition, and its secrets leave the card."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pi import load

setup = load("setup")
machine = load("machine")


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders in the place of the partitions; mounting is the system's."""

    @contextmanager
    def writable() -> Iterator[Path]:
        yield tmp_path

    for name in ("data/etc/mycoswarm", "data/iwd", "data/ssh"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(setup, "DATA", tmp_path / "data")
    monkeypatch.setattr(machine, "writable_boot", writable)
    return tmp_path


def test_wishes_are_fulfilled_and_secrets_leave_the_card(card: Path) -> None:
    file = card / "mycoswarm.txt"
    file.write_text("hostname=pilz\nwifi_name=Home\nwifi_password=correct horse\npeers=192.168.7.5:6927\n")
    assert setup.taken(file) == ()
    assert (card / "data" / "iwd" / "Home.psk").read_text() == "[Security]\nPassphrase=correct\\shorse\n"
    assert (card / "data" / "iwd" / "Home.psk").stat().st_mode & 0o777 == 0o600
    assert (card / "data" / "etc" / "environment").read_text() == "MYCOSWARM_PEERS=192.168.7.5:6927\n"
    assert "correct horse" not in file.read_text() and "has taken hostname" not in file.read_text().splitlines()[-1]
    assert setup.own_name() == "pilz"
    assert setup.taken(file) == ()  # there is nothing left to take


def test_a_bad_file_changes_nothing(card: Path) -> None:
    file = card / "mycoswarm.txt"
    file.write_text("hostname=pilz\nhostname=again\n")
    assert setup.taken(file) == ("line 2: hostname is given too often",)
    assert file.read_text() == "hostname=pilz\nhostname=again\n"
    assert setup.own_name() == "mycoswarm"


def test_a_file_is_written_over_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "mycoswarm.txt"
    file.write_bytes(b"secret")
    node = file.stat().st_ino
    setup.blotted(file, 6)
    assert file.read_bytes() == b"######" and file.stat().st_ino == node
