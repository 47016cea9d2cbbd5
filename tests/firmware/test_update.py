"""Another system into the slot that does not run: what is refused, and that what is written is on the card, whole."""

import shutil
from pathlib import Path

import pytest

from pi import FIRMWARE, load
from signatures import Signer

update = load("update")
slot = load("slot")
machine = load("machine")

CMDLINE = "console=tty1 root=PARTUUID=4d59434f-02 ro mycoswarm.slot=a mycoswarm.data=PARTUUID=4d59434f-04\n"
CONFIG = FIRMWARE / "boot" / "config.txt"
needs_minisign = pytest.mark.skipif(
    shutil.which("minisign") is None, reason="minisign is missing: apt install minisign"
)


@pytest.mark.parametrize(
    ("one", "than", "older"), [("0.1.0", "0.2.0", True), ("0.10.0", "0.9.9", False), ("1", "1", False)]
)
def test_versions_are_compared_by_their_numbers(one: str, than: str, older: bool) -> None:
    assert update.is_older(one, than) is older


def test_a_slot_is_a_partition_of_its_card() -> None:
    assert update.partition("a", CMDLINE) == Path("/dev/disk/by-partuuid/4d59434f-02")
    assert update.partition("b", CMDLINE) == Path("/dev/disk/by-partuuid/4d59434f-03")
    with pytest.raises(machine.Trouble):
        update.partition("a", "mycoswarm.data=PARTUUID=../../x-04")


def test_only_a_system_of_this_kind_that_is_not_older_is_accepted() -> None:
    mine = {"kind": "pi", "version": "0.2.0"}
    assert update.accepted({"kind": "pi", "version": "0.2.0"}, mine, older=False) == "0.2.0"
    assert update.accepted({"kind": "pi", "version": "0.1.0"}, mine, older=True) == "0.1.0"
    with pytest.raises(machine.Trouble, match=r"version 0\.1\.0, older than 0\.2\.0"):
        update.accepted({"kind": "pi", "version": "0.1.0"}, mine, older=False)
    for other in ({"kind": "pc", "version": "0.3.0"}, {}):
        with pytest.raises(machine.Trouble, match="no system for this appliance"):
            update.accepted(other, mine, older=True)


def test_a_folder_that_does_not_say_what_it_is_is_no_system(tmp_path: Path) -> None:
    with pytest.raises(machine.Trouble, match="does not say what it is"):
        slot.about(tmp_path)


@needs_minisign
def test_a_signed_system_passes_and_one_changed_by_a_byte_does_not(tmp_path: Path) -> None:
    signer, stranger = Signer(), Signer()
    key, file = tmp_path / "update.pub", tmp_path / "system"
    key.write_text(f"untrusted comment: from mycoswarm.txt\n{signer.public}\n")
    file.write_bytes(bytes(range(256)) * 400)
    signature = tmp_path / "system.minisig"
    signature.write_text(signer.sign(file.read_bytes(), "mycoswarm-pi 0.2.0"))
    assert "mycoswarm-pi 0.2.0" in update.verified(file, key)
    signature.write_text(stranger.sign(file.read_bytes(), "mycoswarm-pi 0.2.0"))
    with pytest.raises(machine.Trouble, match="refused: not signed with the key that you trust"):
        update.verified(file, key)
    signature.write_text(signer.sign(file.read_bytes(), "mycoswarm-pi 0.2.0"))
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(machine.Trouble, match="or changed since") as caught:
        update.verified(file, key)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_the_copy_that_is_checked_goes_away_however_it_ends(tmp_path: Path) -> None:
    file, stage = tmp_path / "system", tmp_path / "staged"
    with pytest.raises(machine.Trouble, match="system is not there"), update.staged(file, stage):
        raise AssertionError
    file.write_bytes(b"of an owner")
    with pytest.raises(machine.Trouble, match=r"system\.minisig is not there"), update.staged(file, stage):
        raise AssertionError
    (tmp_path / "system.minisig").write_bytes(b"signed")
    stage.mkdir()
    (stage / "rest").write_bytes(b"of an update whose plug was pulled")
    with pytest.raises(machine.Trouble, match="refused"), update.staged(file, stage) as copy:
        file.write_bytes(b"of a thief!")  # what is checked is what is written
        assert copy.read_bytes() == b"of an owner" and Path(f"{copy}.minisig").read_bytes() == b"signed"
        assert not (stage / "rest").exists() and stage.stat().st_mode & 0o777 == 0o700
        raise machine.Trouble("refused")
    assert not stage.exists()
    assert "R! /data/slot/staged" in (FIRMWARE / "root/etc/tmpfiles.d/appliance.conf").read_text()


def test_an_update_leaves_room_for_what_the_node_writes(tmp_path: Path) -> None:
    file = tmp_path / "system"
    with file.open("wb") as opened:
        opened.truncate(shutil.disk_usage(tmp_path).free - update.SPARE_BYTES // 2)
    (tmp_path / "system.minisig").touch()
    with pytest.raises(machine.Trouble, match=r"MiB free, and .* needed"), update.staged(file, tmp_path / "staged"):
        raise AssertionError


def test_an_update_that_nobody_has_tried_yet_is_withdrawn_before_its_slot_is_written_over(tmp_path: Path) -> None:
    config, trial = tmp_path / "config.txt", tmp_path / "trial"
    config.write_bytes(CONFIG.read_bytes())
    slot.choose(config, "b")
    trial.write_text("b 0\n")
    for _ in range(2):
        update.withdraw(config, trial, "a")
        assert config.read_bytes() == CONFIG.read_bytes() and not trial.exists()


def test_what_is_written_to_a_slot_is_read_back(tmp_path: Path) -> None:
    file, device = tmp_path / "system", tmp_path / "device"
    file.write_bytes(bytes(range(256)) * 9000)
    device.write_bytes(b"\xff" * 3_000_000)
    update.written(file, device)
    assert device.read_bytes()[: file.stat().st_size] == file.read_bytes()
    device.write_bytes(b"")
    with pytest.raises(machine.Trouble, match="does not fit"):
        update.written(file, device)
    with pytest.raises(machine.Trouble, match="cannot be written: No such file"):
        update.written(file, tmp_path / "nothing")


def made(tmp_path: Path) -> Path:
    """What a system brings for its folder on the boot partition."""
    source = tmp_path / "slot"
    source.mkdir()
    (source / "vmlinuz").write_bytes(b"kernel")
    (source / "cmdline.txt").write_text((CONFIG.parent / "cmdline.txt").read_text().replace("@DISK@", "4d59434f"))
    return source


def test_a_slots_folder_is_made_anew_with_its_own_command_line(tmp_path: Path) -> None:
    source, folder = made(tmp_path), tmp_path / "b"
    folder.mkdir()
    (folder / "old.dtb").write_bytes(b"old")
    (tmp_path / "FSCK0000.REC").write_bytes(b"lost")
    (tmp_path / "config.txt").write_bytes(b"stays")
    update.carry(source, folder)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "config.txt", "slot"]
    assert sorted(each.name for each in folder.iterdir()) == ["cmdline.txt", "vmlinuz"]
    line = (folder / "cmdline.txt").read_text()
    assert slot.running(line) == "b" and "root=PARTUUID=4d59434f-03 " in line and "@" not in line
    assert update.partition("b", line).name == "4d59434f-03"


def test_a_kernel_that_does_not_fit_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    source, folder = made(tmp_path), tmp_path / "b"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"old")
    with (source / "initrd.img").open("wb") as opened:
        opened.truncate(shutil.disk_usage(tmp_path).free + (1 << 20))
    with pytest.raises(machine.Trouble, match="no room"):
        update.carry(source, folder)
    assert (folder / "vmlinuz").read_bytes() == b"old"


@pytest.mark.parametrize("words", [[], ["a", "b"], ["a", "--newer"]])
def test_other_words_get_the_usage(words: list[str]) -> None:
    with pytest.raises(machine.Trouble, match="mycoswarm-update FILE"):
        update.main(words)
