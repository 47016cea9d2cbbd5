"""Which system starts: one letter in config.txt, trials that end, what is told of them."""

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
    with pytest.raises(machine.Trouble):
        slot.running("root=/dev/sda mycoswarm.slot=c")


@given(st.text(max_size=20))
def test_a_damaged_trial_is_none(text: str) -> None:
    found = slot.parse_trial(text)
    assert found is None or (found.slot in "ab" and 0 <= found.starts < 1000)


def test_a_trial_is_read() -> None:
    assert slot.parse_trial("b 2\n") == slot.Trial("b", 2)


def test_a_trials_record_may_be_missing_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "trial"
    assert slot.read_trial(file) is None
    file.write_bytes(b"b \xff\n")
    assert slot.read_trial(file) is None
    file.write_text("b 3\n")
    assert slot.read_trial(file) == slot.Trial("b", 3)


@pytest.mark.parametrize(
    ("current", "trial", "told"),
    [
        ("b", ("b", 1), "The update to version 2.0 holds: slot b."),
        ("a", ("b", 4), "was taken back: slot b has not proved itself (starts: 3). This is version 2.0."),
        ("a", ("b", 0), "is not in use: slot b did not start. This is version 2.0."),
    ],
)
def test_what_is_told_of_a_trial_that_has_ended(current: str, trial: tuple[str, int], told: str) -> None:
    assert slot.verdict(current, slot.Trial(*trial), "2.0").endswith(told)


def test_a_trial_ends_with_its_result_written_down(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("b 1\n")
    slot.end(tmp_path, "It holds.")
    assert [each.name for each in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "It holds.\n"


def test_a_card_that_takes_no_more_is_no_fault_of_a_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result").mkdir()  # where a file would be put, so that putting it fails
    (tmp_path / "result" / "x").touch()
    (tmp_path / "trial").write_text("b 1\n")
    slot.end(tmp_path, "It holds.")
    assert "could not be written down" in capsys.readouterr().err
    assert not (tmp_path / "trial").exists()


def test_one_program_at_a_time_has_the_boot_partition(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first = machine.alone(lock, 0.0, "taken")
    with first, pytest.raises(machine.Trouble, match="taken"), machine.alone(lock, 0.0, "taken"):
        raise AssertionError
    with machine.alone(lock, 0.0, "taken"):
        assert lock.exists()


def test_the_image_is_tried_with_the_times_and_counts_of_the_appliance() -> None:
    changeover = load("changeover", "kit")
    assert (changeover.TRIAL_S, changeover.STARTS) == (slot.HEALTHY_S, slot.MOST_STARTS)
    step = (FIRMWARE / "initramfs" / "scripts" / "init-bottom" / "mycoswarm").read_text()
    assert f'[ "$starts" -gt {slot.MOST_STARTS} ] || exit 0' in step
    assert 'say "slot $slot is on trial, start $starts"' in step
