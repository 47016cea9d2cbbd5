"""Which system starts: one letter in config.txt, trials that end, signed systems that go into the other slot."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import FIRMWARE, load

slot = load("slot")
machine = load("machine")

CMDLINE = "console=tty1 root=PARTUUID=4d59434f-02 ro mycoswarm.slot=a mycoswarm.data=PARTUUID=4d59434f-04\n"
CONFIG = FIRMWARE / "boot" / "config.txt"


def test_a_switch_changes_one_byte_of_config_txt(tmp_path: Path) -> None:
    config = tmp_path / "config.txt"
    before = CONFIG.read_bytes()
    config.write_bytes(before)
    assert slot.chosen(config) == "a"
    slot.choose(config, "b")
    assert slot.chosen(config) == "b"
    after = config.read_bytes()
    assert [at for at, (one, two) in enumerate(zip(before, after, strict=True)) if one != two] == [slot.LETTER_AT]
    slot.choose(config, "a")
    assert config.read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"# os_prefix=a/\n", b"os_prefix=c/\n", b"os_prefix=a\n", b" os_prefix=a/\n"])
def test_a_config_txt_of_another_kind_is_left_alone(tmp_path: Path, text: bytes) -> None:
    config = tmp_path / "config.txt"
    config.write_bytes(text)
    with pytest.raises(machine.Trouble):
        slot.choose(config, "b")
    assert config.read_bytes() == text


@pytest.mark.parametrize(
    ("trial", "healthy", "due"),
    [
        (None, None, "nothing"),
        (("a", 1), None, "wait"),
        (("a", 1), True, "keep"),
        (("a", 3), True, "keep"),
        (("a", 1), False, "back"),
        (("a", 4), None, "back"),
        (("b", 1), None, "gone"),
        (("b", 4), None, "gone"),
    ],
)
def test_what_is_due_at_a_start_of_slot_a(trial: tuple[str, int] | None, healthy: bool | None, due: str) -> None:
    assert slot.step("a", slot.Trial(*trial) if trial else None, healthy=healthy) == due


def test_the_slot_that_runs_is_on_the_command_line() -> None:
    assert slot.running(CMDLINE) == "a" and slot.other("a") == "b" and slot.other("b") == "a"
    assert slot.partition("a", CMDLINE) == Path("/dev/disk/by-partuuid/4d59434f-02")
    assert slot.partition("b", CMDLINE) == Path("/dev/disk/by-partuuid/4d59434f-03")
    with pytest.raises(machine.Trouble):
        slot.running("root=/dev/sda mycoswarm.slot=c")
    with pytest.raises(machine.Trouble):
        slot.partition("a", "mycoswarm.data=PARTUUID=../../x-04")


@given(st.text(max_size=20))
def test_a_damaged_trial_is_none(text: str) -> None:
    found = slot.parse_trial(text)
    assert found is None or (found.slot in "ab" and 0 <= found.starts < 1000)


def test_a_trial_is_read() -> None:
    assert slot.parse_trial("b 2\n") == slot.Trial("b", 2)


@pytest.mark.parametrize(
    ("one", "than", "older"), [("0.1.0", "0.2.0", True), ("0.10.0", "0.9.9", False), ("1", "1", False)]
)
def test_versions_are_compared_by_their_numbers(one: str, than: str, older: bool) -> None:
    assert slot.is_older(one, than) is older


def test_what_is_written_to_a_slot_is_read_back(tmp_path: Path) -> None:
    file, device = tmp_path / "system", tmp_path / "device"
    file.write_bytes(bytes(range(256)) * 9000)
    device.write_bytes(b"\xff" * 3_000_000)
    slot.written(file, device)
    assert device.read_bytes()[: file.stat().st_size] == file.read_bytes()
    device.write_bytes(b"")
    with pytest.raises(machine.Trouble, match="does not fit"):
        slot.written(file, device)


def test_a_slots_folder_is_made_anew_with_its_own_command_line(tmp_path: Path) -> None:
    source, folder = tmp_path / "slot", tmp_path / "b"
    source.mkdir()
    (source / "vmlinuz").write_bytes(b"kernel")
    (source / "cmdline.txt").write_text((CONFIG.parent / "cmdline.txt").read_text().replace("@DISK@", "4d59434f"))
    folder.mkdir()
    (folder / "old.dtb").write_bytes(b"old")
    slot.carry(source, folder)
    assert sorted(each.name for each in folder.iterdir()) == ["cmdline.txt", "vmlinuz"]
    line = (folder / "cmdline.txt").read_text()
    assert slot.running(line) == "b" and "root=PARTUUID=4d59434f-03 " in line and "@" not in line
    assert slot.partition("b", line).name == "4d59434f-03"
